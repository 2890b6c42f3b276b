"""The estimator `diffusion-transformer` and the sampler that it learns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import torch
from pydantic import Field as Option
from torch import Tensor

from sbikit import (
    CheckpointError,
    Estimator,
    Monitor,
    Options,
    Sampler,
    Simulations,
    Simulator,
    Spec,
    Values,
    check_observation,
)
from sbikit.problem.seeds import derive_seed, draw_seeds, normals
from sbikit_transformer import checkpoint
from sbikit_transformer.denoiser import Condition, Denoiser, common_grid
from sbikit_transformer.diffusion import State, noise_levels, solve
from sbikit_transformer.training import Schedule, Training

_FORMAT = 1
_TOKENS_AT_ONCE = 16384


class TransformerOptions(Options):
    """Options of `diffusion-transformer`; the defaults are the quick preset's."""

    steps: int = Option(4000, ge=1, description="training steps")
    batch: int = Option(32, ge=1, description="fresh simulations a training step")
    width: int = Option(64, ge=8, multiple_of=8, description="width of a token")
    depth: int = Option(4, ge=1, description="transformer blocks")
    heads: int = Option(4, ge=1, description="attention heads; must divide the width")
    patch: int = Option(4, ge=1, description="pixels a side of a field's patch, at most")
    rate: float = Option(1e-3, gt=0, le=1, description="learning rate of AdamW; Muon's is ten times it")
    ema: float = Option(0.998, ge=0, lt=1, description="decay of the averaged weights")
    guide_simulations: int = Option(8192, ge=64, description="simulations that fit the Gaussian guide")
    guide_nodes: int = Option(64, ge=16, description="parameter nodes of the Gaussian guide, a power of two")
    evaluations: int = Option(16, ge=2, description="network evaluations a draw")
    sigma_max: float = Option(150.0, gt=1, description="first noise level, in prior standard deviations")
    sigma_min: float = Option(0.05, gt=0, lt=1, description="last noise level")


class TransformerSampler(Sampler):
    """Draws of all latents together, by the probability flow of a trained denoiser."""

    def __init__(self, denoiser: Denoiser, options: TransformerOptions, device: torch.device) -> None:
        self.spec = denoiser.spec
        self.denoiser = denoiser.to(device).eval()
        self.device = device
        self.levels = noise_levels(options.sigma_max, options.sigma_min, options.evaluations)

    @torch.no_grad()
    def sample(self, observation: Values, n: int, *, seed: int) -> Values:
        """See `sbikit.Sampler.sample`; draw i of observation b depends on (seed, b, i) alone.

        Raises:
            ObservationError: the observation does not fit the simulator.
        """
        batch = check_observation(observation, self.spec)
        observation = {v.name: observation[v.name].to(self.device) for v in self.spec.observables}
        condition = self.denoiser.condition(observation)
        at_once = max(1, _TOKENS_AT_ONCE // self.denoiser.network.position.shape[0])
        shape = (self.denoiser.field_map.channels, *self.denoiser.grid)
        scalars = self.denoiser.scalar_map.size
        pixels = int(torch.Size(shape).numel())
        rows: dict[str, list[Tensor]] = {v.name: [] for v in self.spec.latents}
        for b in range(batch):
            told = condition.rows(slice(b, b + 1))
            seeds = draw_seeds(derive_seed(seed, b), "draws", 0, n)
            for first in range(0, n, at_once):
                noise = normals(seeds[first : first + at_once], (pixels + scalars,), self.device)
                start = noise[:, :pixels].unflatten(1, shape), noise[:, pixels:]
                clean = solve(self._denoise_given(told.repeat(len(noise))), start, self.levels)
                for name, value in self.denoiser.decode(clean).items():
                    rows[name].append(value.float().cpu())
        return {
            name: torch.cat(parts).unflatten(0, (batch, n)).transpose(0, 1) for name, parts in rows.items()
        }

    def _denoise_given(self, condition: Condition) -> Callable[[State, float], State]:
        def denoise(state: State, sigma: float) -> State:
            log_sigma = torch.full((len(state[1]),), sigma, device=self.device).log()
            clean: State = self.denoiser(state, log_sigma, condition)[0]
            return clean

        return denoise


class DiffusionTransformer(Estimator):
    """One transformer diffusion model over field patches and parameters as tokens of one sequence."""

    Options: ClassVar[type[Options]] = TransformerOptions
    options: TransformerOptions

    def match(self, spec: Spec) -> Spec:
        """Everything, if all fields share a grid.

        Raises:
            UnsupportedError: they do not.
        """
        common_grid(spec)
        return spec

    def fit(self, simulations: Simulations, *, seed: int, monitor: Monitor) -> TransformerSampler:
        """Fit the guide, then train on the endless stream; see `sbikit.Estimator.fit`."""
        o = self.options
        denoiser = self._denoiser(simulations.simulator)
        schedule = Schedule(o.steps, o.batch, o.guide_simulations, o.rate, o.ema)
        Training(denoiser, schedule, seed, monitor.device).run(simulations, monitor)
        return TransformerSampler(denoiser, o, monitor.device)

    def _denoiser(self, simulator: Simulator) -> Denoiser:
        o, spec = self.options, self.match(simulator.spec)
        with torch.random.fork_rng(devices=[]):  # layers draw weights when made; `reset` draws the real ones
            return Denoiser(
                simulator,
                spec,
                patch=o.patch,
                width=o.width,
                depth=o.depth,
                heads=o.heads,
                nodes=o.guide_nodes,
            )

    def save(self, sampler: Sampler, folder: Path) -> None:
        """Write `weights.safetensors`."""
        if not isinstance(sampler, TransformerSampler):
            raise TypeError(f"expected a TransformerSampler, got {type(sampler).__name__}")
        checkpoint.write(folder / "weights.safetensors", sampler.denoiser.state_dict(), {"format": _FORMAT})

    def load(self, folder: Path, simulator: Simulator, *, device: torch.device) -> TransformerSampler:
        """Read what `save` wrote.

        Raises:
            CheckpointError: the folder is damaged or belongs to another problem.
        """
        path = folder / "weights.safetensors"
        tensors, header = checkpoint.read(path)
        if header.get("format") != _FORMAT:
            raise CheckpointError(
                "The weights have a format that this version does not know.",
                where=str(path),
                expected=str(_FORMAT),
                got=str(header.get("format")),
                fix="use the version of sbikit that wrote them",
            )
        denoiser = self._denoiser(simulator)
        checkpoint.restore(denoiser, tensors, path)
        return TransformerSampler(denoiser, self.options, device)
