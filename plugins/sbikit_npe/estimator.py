"""Neural posterior estimation of the latent vectors; latent fields are marginalised out.

A conditional flow q(theta | x) is trained on joint draws by maximum likelihood, so q is the marginal
posterior of the vectors whether or not there are latent fields beside them.
"""

from __future__ import annotations

import json
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from pydantic import Field as Option
from pydantic import ValidationError
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
    UnsupportedError,
    Values,
    check_observation,
)
from sbikit.problem.seeds import derive_seed, generator
from sbikit_npe.coordinates import Coordinates
from sbikit_npe.embedding import Embedding, Input, Reader
from sbikit_npe.flow import build_flow, load_posterior_nn
from sbikit_npe.storage import checksum, damaged, load_checkpoint, restore, save_checkpoint, write_whole
from sbikit_npe.training import Draws, Schedule, Training

_CHUNK = 512
_CALIBRATION_DRAWS = 2000


class NPEOptions(Options):
    """Options of `NPE`."""

    simulations: int = Option(
        default=20_000, ge=100, le=10_000_000, description="draws of the training stream, held in memory"
    )
    validation_fraction: float = Option(
        default=0.1, ge=0.01, le=0.5, description="part of the draws that decides when to stop"
    )
    epochs: int = Option(default=20, ge=1, le=10_000, description="most passes over the draws")
    patience: int = Option(
        default=10, ge=1, le=10_000, description="stop after so many passes without a better validation loss"
    )
    batch: int = Option(default=128, ge=1, le=65_536, description="draws a step")
    learning_rate: float = Option(default=1e-3, gt=0, le=1, description="of AdamW, falling to zero")
    weight_decay: float = Option(default=1e-3, ge=0, le=1, description="of AdamW")
    transforms: int = Option(default=4, ge=1, le=64, description="spline transforms of the flow")
    bins: int = Option(default=8, ge=2, le=64, description="bins of each spline")
    hidden: int = Option(default=64, ge=1, le=4096, description="width of the flow's nets")
    layers: int = Option(default=2, ge=1, le=16, description="depth of the flow's nets")
    channels: int = Option(default=16, ge=1, le=1024, description="channels of the convolutions")
    context: int = Option(default=64, ge=1, le=4096, description="numbers the data are compressed to")


class NPESampler(Sampler):
    """Draws from a fitted flow.

    Args:
        simulator: knows prior and summaries.
        spec: the problem, with latent vectors alone.
        inputs: what the embedding net sees.
        options: the architecture.
        seed: fixes the initial weights.
    """

    def __init__(
        self, simulator: Simulator, spec: Spec, inputs: tuple[Input, ...], options: NPEOptions, seed: int
    ) -> None:
        self.spec = spec
        self.inputs = inputs
        self.options = options
        self.problem = describe(simulator, spec)
        self.reader = Reader(simulator, spec)
        self.coordinates = Coordinates(simulator.prior, spec)
        self.device = torch.device("cpu")
        self.flow = build_flow(
            _build_embedding(inputs, options, seed),
            row=sum(torch.Size(i.shape).numel() for i in inputs),
            size=self.coordinates.size,
            transforms=options.transforms,
            hidden=options.hidden,
            layers=options.layers,
            bins=options.bins,
            seed=derive_seed(seed, "flow"),
        )

    def to(self, device: torch.device) -> NPESampler:
        """Move the networks to a device."""
        self.device = device
        self.flow.to(device)
        return self

    @torch.no_grad()
    def sample(self, observation: Values, n: int, *, seed: int) -> dict[str, Tensor]:
        """Draw `n` samples for each of B observations; see `Sampler.sample`.

        Those of observation b depend on it, the seed and b alone. The noise is drawn on the CPU and
        sent through the flow, so no global random state is read or set.

        Raises:
            ObservationError: the observation does not fit the simulator.
        """
        count = check_observation(observation, self.spec)
        self.flow.eval()
        columns = []
        for b in range(count):
            one = {v.name: observation[v.name][b : b + 1] for v in self.spec.observables}
            source = generator(derive_seed(seed, "npe", b))
            noise = torch.randn(n, self.coordinates.size, generator=source)
            columns.append(self._push(noise, self.reader.rows(one)))
        return self.coordinates.decode(torch.stack(columns, 1))

    def _push(self, noise: Tensor, row: Tensor) -> Tensor:
        """Noise (n, D) through the flow given one row (1, P)."""
        context = self.flow.embedding_net(row.to(self.device)).squeeze(0)
        return self.flow.net(context).transform.inv(noise.to(self.device)).cpu()

    def state(self) -> dict[str, Tensor]:
        """Weights and scales."""
        return {
            **{f"flow/{name}": value for name, value in self.flow.state_dict().items()},
            **{f"coordinates/{name}": value for name, value in self.coordinates.state_dict().items()},
        }


class NPE(Estimator):
    """Neural posterior estimation with a neural spline flow of sbi."""

    Options = NPEOptions

    def __init__(self, options: NPEOptions | None = None) -> None:
        """Prepare to fit.

        Raises:
            PluginError: sbi is not installed.
        """
        self.options: NPEOptions = options or NPEOptions()

    def match(self, spec: Spec) -> Spec:
        """The marginal problem of the latent vectors.

        Raises:
            UnsupportedError: there is no latent vector.
        """
        if not spec.vectors:
            raise UnsupportedError(
                "The estimator 'npe' infers vectors, and this problem has none to infer.",
                where="estimator 'npe'",
                expected="at least one latent vector",
                got=", ".join(v.name for v in spec.latents) + " (fields)",
                fix="use --estimator diffusion-transformer, which infers fields",
            )
        return spec.select(*(v.name for v in spec.vectors))

    def fit(self, simulations: Simulations, *, seed: int, monitor: Monitor) -> NPESampler:
        """Learn the posterior; see `Estimator.fit`.

        Raises:
            UnsupportedError: the problem has no latent vector.
            PluginError: sbi is not installed.
            CheckpointError: the checkpoint of an unfinished fit is damaged, or of another fit.
        """
        load_posterior_nn()
        spec = self.match(simulations.spec)
        dropped = [v.name for v in simulations.spec.latents if v not in spec.latents]
        if dropped:
            monitor.say(f"npe: marginalised over {', '.join(dropped)}; only vectors are inferred")
        reader = Reader(simulations.simulator, spec)
        latents, rows, inputs = self._simulate(simulations, spec, reader, monitor)
        sampler = NPESampler(simulations.simulator, spec, inputs, self.options, seed)
        sampler.coordinates.fit(latents)
        sampler.flow.embedding_net.calibrate(rows[:_CALIBRATION_DRAWS])
        draws = Draws(sampler.coordinates.encode(latents), rows)
        self._train(sampler.to(monitor.device), draws, simulations.seed, seed, monitor)
        return sampler

    def _simulate(
        self, simulations: Simulations, spec: Spec, reader: Reader, monitor: Monitor
    ) -> tuple[dict[str, Tensor], Tensor, tuple[Input, ...]]:
        """Training draws: latents, each (N, D), rows (N, P), and what the rows hold."""
        latents: dict[str, list[Tensor]] = {v.name: [] for v in spec.latents}
        rows = []
        total = self.options.simulations
        with monitor.progress("simulating", total) as advance:
            for first in range(0, total, _CHUNK):
                draws = simulations.training(first, min(_CHUNK, total - first))
                for name, parts in latents.items():
                    parts.append(draws[name])
                rows.append(reader.rows(draws))
                advance(len(rows[-1]))
        return (
            {name: torch.cat(parts) for name, parts in latents.items()},
            torch.cat(rows),
            reader.inputs(draws),
        )

    def _train(
        self, sampler: NPESampler, draws: Draws, stream_seed: int, seed: int, monitor: Monitor
    ) -> None:
        o = self.options
        schedule = Schedule(o.epochs, o.patience, o.batch, o.learning_rate, o.weight_decay)
        text = json.dumps([o.model_dump(), sampler.problem, stream_seed, seed], sort_keys=True)
        identity = blake2b(text.encode(), digest_size=16).hexdigest()
        kept = len(draws) - max(1, round(o.validation_fraction * len(draws)))
        training = Draws(draws.coordinates[:kept], draws.rows[:kept])
        validation = Draws(draws.coordinates[kept:], draws.rows[kept:])
        Training(sampler.flow, schedule, seed, monitor, identity).run(training, validation)

    def save(self, sampler: Sampler, folder: Path) -> None:
        """Write `npe.safetensors` (weights and scales) and `npe.json` (the rest).

        Raises:
            UnsupportedError: the sampler is not from this estimator.
        """
        if not isinstance(sampler, NPESampler):
            raise UnsupportedError(
                "The estimator 'npe' can only save its own samplers.",
                expected="NPESampler",
                got=type(sampler).__name__,
            )
        weights, description = _paths(folder)
        digest = save_checkpoint(weights, sampler.state(), {"identity": "npe"})
        record = {
            "problem": sampler.problem,
            "options": sampler.options.model_dump(),
            "inputs": [[i.name, list(i.shape)] for i in sampler.inputs],
            "weights": digest,
        }
        write_whole(description, lambda partial: partial.write_text(json.dumps(record, indent=2) + "\n"))

    def load(self, folder: Path, simulator: Simulator, *, device: torch.device) -> NPESampler:
        """Read what `save` wrote; its options, not this estimator's, say how the networks are built.

        Raises:
            CheckpointError: the folder is damaged or belongs to another problem.
            PluginError: sbi is not installed.
        """
        weights, description = _paths(folder)
        spec = self.match(simulator.spec)
        options, inputs, digest = _read_description(description, describe(simulator, spec))
        if checksum(weights) != digest:
            raise damaged(weights, ValueError("its checksum is not the one in npe.json"))
        tensors, _ = load_checkpoint(weights, "npe")
        sampler = NPESampler(simulator, spec, inputs, options, seed=0)
        for name, module in (("flow/", sampler.flow), ("coordinates/", sampler.coordinates)):
            part = {k.removeprefix(name): v for k, v in tensors.items() if k.startswith(name)}
            restore(module, part, weights)
        return sampler.to(device)


def describe(simulator: Simulator, spec: Spec) -> dict[str, Any]:
    """What a checkpoint must agree with: the variables, and the prior that makes the coordinates."""
    return {
        "latents": [[v.name, list(v.shape), list(v.labels)] for v in spec.vectors],
        "observables": [[v.name, list(v.shape)] for v in spec.observables],
        "prior": {label: repr(law) for label, law in simulator.prior.laws.items()},
    }


def _build_embedding(inputs: tuple[Input, ...], options: NPEOptions, seed: int) -> Embedding:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(seed, "embedding"))
        return Embedding(inputs, options.channels, options.context)


def _paths(folder: Path) -> tuple[Path, Path]:
    return folder / "npe.safetensors", folder / "npe.json"


def _read_description(path: Path, problem: dict[str, Any]) -> tuple[NPEOptions, tuple[Input, ...], str]:
    """Options, inputs and checksum of the weights.

    Raises:
        CheckpointError: the file is damaged or belongs to another problem.
    """
    try:
        record = json.loads(path.read_text())
        found = record["problem"]
        options = NPEOptions.model_validate(record["options"])
        inputs = tuple(Input(str(name), tuple(int(n) for n in shape)) for name, shape in record["inputs"])
        digest = str(record["weights"])
    except (OSError, ValidationError, ValueError, KeyError, TypeError) as error:
        raise damaged(path, error) from error
    for key, expected in problem.items():
        if found.get(key) != expected:
            raise CheckpointError(
                f"The fitted sampler belongs to another problem: its {key} differ.",
                where=str(path),
                expected=json.dumps(expected),
                got=json.dumps(found.get(key)),
                fix="use the simulator and options that it was fitted with, or fit again",
            )
    return options, inputs, digest
