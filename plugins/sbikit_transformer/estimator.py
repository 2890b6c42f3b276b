"""The estimator `diffusion-transformer` and the sampler that it learns."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbikit import (
    Draws,
    Estimator,
    JointDraws,
    Monitor,
    Sampler,
    Simulator,
    Spec,
    Trust,
    Values,
    Workspace,
    check_observation,
    draw_seeds,
    normals,
    support_bounds,
)
from sbikit.learning import describe_problem, fingerprint, read_checkpoint, write_checkpoint
from sbikit_transformer.conditions import Condition
from sbikit_transformer.denoiser import Denoiser, State, common_grid
from sbikit_transformer.diffusion import noise_levels
from sbikit_transformer.doubts import LEAST_DRAWS, judge
from sbikit_transformer.options import TransformerOptions
from sbikit_transformer.scalar_flow import draw_scalars
from sbikit_transformer.training import looked_at, train, wanted_of_law

_FORMAT = "diffusion-transformer 18"
# Of large maps most of what is written; it has a file of its own, since files that ship are of limited size.
_APART = "data_map.components.directions"
# Of all draws that are solved together: fewer take more calls, and on processors more than caches hold take
# longer: a draw of the quick preset 25.0 +- 0.7 ms with 4,096, 26.7 +- 0.6 with 1,024, 36 +- 4 with 16,384.
# No draw depends on it but by rounding.
_TOKENS_AT_ONCE, _TOKENS_ON_GPU = 4096, 16384
# Pixels of a grid likewise, on processors: a draw of `paper` takes 88 ms with 7 of them at once, 113 with 15.
_PIXELS_AT_ONCE = 2**17


class TransformerSampler(Sampler):
    """Draws of all latents together, by the probability flows of trained denoisers: first the scalars given
    data, then the field given data and scalars.

    Args:
        denoiser: trained.
        options: that it was trained with.
        device: where to compute.
        precision: of products inside the field's network. The scalars' is cheap beside it, and all there is
            where posteriors of scalars alone may be a thousand times narrower than their prior.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        options: TransformerOptions,
        device: torch.device,
        precision: torch.dtype = torch.float32,
    ) -> None:
        self.spec = denoiser.spec
        self.denoiser = denoiser.to(device).eval()
        self.device = device
        self._options, self._precision = options, precision
        count = options.evaluations or int(denoiser.knots)
        self.scalar_levels = noise_levels(options.sigma_max, float(denoiser.end[0]), count)
        first, last, evaluations = denoiser.path.tolist()
        self.field_levels = noise_levels(first, last, int(evaluations))

    def in_precision(self, precision: torch.dtype) -> TransformerSampler:
        """See `sbikit.SupportsPrecision.in_precision`."""
        return TransformerSampler(self.denoiser, self._options, self.device, precision)

    @torch.no_grad()
    def sample(self, observation: Values, n: int, *, seeds: NDArray[np.int64]) -> Draws:
        """See `sbikit.Sampler.sample`; draw i of observation b depends on it and on (seeds[b], i) alone.

        Raises:
            ObservationError: the observation does not fit the simulator, or there is not one seed for each.
        """
        check_observation(observation, self.spec, seeds)
        observation = {v.name: observation[v.name].to(self.device) for v in self.spec.observables}
        condition = self.denoiser.condition(observation)
        rows, trust = [], []
        for b, seed in enumerate(seeds):
            told = condition.rows(slice(b, b + 1))
            clean = self._draw(told, draw_seeds(int(seed), "draws", 0, n))
            rows.append(self.denoiser.decode(clean))
            trust.append(self._judge(told, clean))
        values = {v.name: torch.stack([row[v.name] for row in rows], 1) for v in self.spec.latents}
        return Draws({name: value.float().cpu() for name, value in values.items()}, tuple(trust))

    def _draw(self, told: Condition, seeds: NDArray[np.int64]) -> State:
        """One draw a seed for one observation, in working coordinates, n in all."""
        shape = (self.denoiser.field_map.channels, *self.denoiser.grid)
        pixels = int(torch.Size(shape).numel())
        networks = self.denoiser.network
        u = torch.empty(len(seeds), self.denoiser.coordinates.size, device=self.device)
        field = torch.zeros(len(seeds), *shape, device=self.device)
        size = pixels + u.shape[1]
        for rows in self._pieces(len(seeds), networks.scalars.position.shape[0]):
            noise = normals(seeds[rows], (size,), self.device)[:, pixels:]
            u[rows] = self._scalars(told.repeat(len(noise)), noise)
        if self.denoiser.guide is None:
            return field, u
        grid = math.prod(self.denoiser.grid)
        for rows in self._pieces(len(seeds), networks.field.position.shape[0], grid):
            noise = normals(seeds[rows], (size,), self.device)[:, :pixels].unflatten(1, shape)
            field[rows] = self._field(told.repeat(len(noise)), noise, u[rows])
        return field, u

    def _pieces(self, count: int, tokens: int, pixels: int = 1) -> Iterator[slice]:
        """So many draws of so many tokens and pixels each, as many as are solved together."""
        on_processor = self.device.type == "cpu"
        size = (_TOKENS_AT_ONCE if on_processor else _TOKENS_ON_GPU) // tokens
        if on_processor:
            size = min(size, _PIXELS_AT_ONCE // pixels)
        size = max(1, size)
        return (slice(first, first + size) for first in range(0, count, size))

    def _scalars(self, told: Condition, noise: Tensor) -> Tensor:
        """Draws of the scalars given data."""
        return draw_scalars(self.denoiser, noise, told, self.scalar_levels)

    def _field(self, told: Condition, noise: Tensor, u: Tensor) -> Tensor:
        """Draws of the field given data and scalars."""
        with self.denoiser.multiplying(self._precision):
            return self.denoiser.draw_field(noise, u, told, self.field_levels)

    def _judge(self, told: Condition, clean: State) -> Trust:
        width = None
        if len(clean[1]) >= LEAST_DRAWS:
            ends = self.denoiser.end.tolist()
            width = min(a / b for a, b in zip(self.denoiser.narrowest(clean), ends, strict=False))
        return judge(told.alien[0].tolist(), self.denoiser.data_map.most_alien.int().tolist(), width)


class DiffusionTransformer(Estimator[TransformerOptions]):
    """Transformer diffusion: of parameters given data, then of fields given both, their patches and the
    parameters being tokens of one sequence.
    """

    divides = True
    for_checks: ClassVar = {"steps": 50, "guide_simulations": 512, "evaluations": 8}

    def match(self, spec: Spec) -> Spec:
        """Everything, if all fields share a grid and the latent ones lie in intervals.

        Raises:
            UnsupportedError: they do not.
        """
        common_grid(spec)
        for field in spec.fields:
            support_bounds(field.name, field.support)
        return spec

    def draws_wanted(self) -> int:
        """New ones at every step, those that fit the guide, those that teach what data tell, and those that
        never train.

        Where steps are measured, theirs are not counted: they take as long as is asked for, however slow
        simulations are.
        """
        o = self.options
        of_steps = (o.fixed_steps or 0) * o.batch
        return o.guide_simulations + wanted_of_law(o) + of_steps + looked_at(o)

    def fit(
        self, simulations: JointDraws, *, seed: int, workspace: Workspace, monitor: Monitor
    ) -> TransformerSampler:
        """Fit the guide, then train on the endless stream; see `sbikit.Estimator.fit`.

        Raises:
            CheckpointError: the checkpoint of an unfinished fit is damaged, or of another fit.
        """
        denoiser = self._denoiser(simulations.simulator)
        problem = describe_problem(simulations.simulator, denoiser.spec)
        train(
            denoiser,
            simulations,
            self.options,
            seed=seed,
            identity=fingerprint(self.options.model_dump(), problem, simulations.seed, seed),
            workspace=workspace,
            monitor=monitor,
        )
        return TransformerSampler(denoiser, self.options, workspace.device)

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
        """Write `weights.safetensors` and, where maps have components, `components.safetensors`."""
        if not isinstance(sampler, TransformerSampler):
            raise TypeError(f"expected a TransformerSampler, got {type(sampler).__name__}")
        denoiser = sampler.denoiser
        header = {"problem": describe_problem(denoiser.simulator, denoiser.spec)}
        state = denoiser.state_dict()
        apart = {_APART: state.pop(_APART)}
        write_checkpoint(folder / "weights.safetensors", _FORMAT, {"denoiser": state}, header)
        if denoiser.data_map.components.count:
            write_checkpoint(folder / "components.safetensors", _FORMAT, {"denoiser": apart}, header)

    def load(self, folder: Path, simulator: Simulator, *, device: torch.device) -> TransformerSampler:
        """Read what `save` wrote.

        Raises:
            CheckpointError: the folder is damaged or belongs to another problem.
        """
        problem = describe_problem(simulator, self.match(simulator.spec))
        kept = read_checkpoint(folder / "weights.safetensors", _FORMAT)
        kept.check_problem(problem)
        denoiser = self._denoiser(simulator)
        state = {_APART: denoiser.state_dict()[_APART], **kept.parts.get("denoiser", {})}
        if denoiser.data_map.components.count:
            apart = read_checkpoint(folder / "components.safetensors", _FORMAT)
            apart.check_problem(problem)
            state |= apart.parts.get("denoiser", {})
        replace(kept, parts={"denoiser": state}).restore("denoiser", denoiser)
        return TransformerSampler(denoiser, self.options, device)
