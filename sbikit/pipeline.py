"""The stages of a run: simulate -> fit -> reference -> sample -> validate -> report.

Each reads and writes the run folder alone, so that a stage can be run by itself and the same command
goes on where it was interrupted. Training simulations are drawn on the fly and never stored; what is
judged is the held-out stream. Random numbers come from (seed, purpose) and from nothing else.
"""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from time import monotonic
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from sbikit import registry
from sbikit.config import RunConfig
from sbikit.errors import DeviceError, RunFolderError
from sbikit.interfaces import Estimator, Evidence, Sampler, Simulator, SupportsSummaries, Validator
from sbikit.metrics import write_metrics
from sbikit.progress import ConsoleMonitor, clock
from sbikit.provenance import Provenance
from sbikit.runfolder import RunFolder, replacing
from sbikit.seeds import derive_seed
from sbikit.simulations import Simulations
from sbikit.store import read_observation, read_posterior, write_posterior
from sbikit.variables import Spec, Values, check_values

HELD_OUT_CHUNK = 32
SAMPLE_CHUNK = 16
TRAINING_DRAWS = 2048
TRAINING_CHUNK = 256


def choose_device(name: str) -> torch.device:
    """The device behind "cpu", "cuda" or "auto".

    Raises:
        DeviceError: it is another word, or "cuda" was asked for and there is no GPU.
    """
    if name not in ("cpu", "cuda", "auto"):
        raise DeviceError("There is no such device.", where="device", expected="cpu, cuda or auto", got=name)
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise DeviceError(
            "There is no GPU that torch can use.",
            where="device",
            expected="a CUDA device",
            got=f"torch {torch.__version__}, none visible",
            fix="use --device cpu, or install a CUDA build of torch and check `nvidia-smi`",
        )
    return torch.device("cuda" if there and name != "cpu" else "cpu")


class Run:
    """A run folder with the plug-ins that its configuration names.

    Args:
        folder: the run folder.
        monitor: where progress goes; its device is what networks use.
        command: what the user typed, for provenance.json.
    """

    def __init__(self, folder: RunFolder, monitor: ConsoleMonitor, command: str = "") -> None:
        self.folder = folder
        self.config: RunConfig = folder.config
        self.monitor = monitor
        self._command = command

    @cached_property
    def provenance(self) -> Provenance:
        """Keeper of provenance.json."""
        return Provenance(self.folder, self._command, str(self.monitor.device))

    @cached_property
    def simulator(self) -> Simulator:
        """The simulator."""
        choice = self.config.simulator
        return cast(Simulator, registry.build("simulator", choice.name, choice.options))

    @cached_property
    def estimator(self) -> Estimator:
        """The estimator."""
        choice = self.config.estimator
        return cast(Estimator, registry.build("estimator", choice.name, choice.options))

    @cached_property
    def validators(self) -> tuple[Validator, ...]:
        """The validators."""
        return tuple(registry.build("validator", c.name, c.options) for c in self.config.validators)

    @cached_property
    def reference(self) -> Sampler | None:
        """The reference sampler, if any."""
        choice = self.config.reference
        if choice is None:
            return None
        made = registry.build(
            "sampler", choice.name, choice.options, simulator=self.simulator, monitor=self.monitor
        )
        return cast(Sampler, made)

    @cached_property
    def simulations(self) -> Simulations:
        """The training and held-out streams."""
        return Simulations(self.simulator, self.config.seed)

    @cached_property
    def spec(self) -> Spec:
        """What the estimator infers."""
        return self.estimator.match(self.simulator.spec)

    @cached_property
    def sampler(self) -> Sampler:
        """The fitted posterior, read from the folder."""
        return self.estimator.load(self.folder.estimator, self.simulator, device=self.monitor.device)

    def prepare(self) -> None:
        """Build every plug-in, so that what cannot work is refused before any work is done."""
        _ = self.validators, self.reference
        left_out = [v.name for v in self.simulator.spec.latents if v not in self.spec.latents]
        if left_out:
            self.monitor.say(
                f"{self.config.estimator.name} infers {', '.join(v.name for v in self.spec.latents)} "
                f"and leaves out {', '.join(left_out)}."
            )
        self.provenance.note("inferred", [v.name for v in self.spec.latents])


# --- running stages -------------------------------------------------------------------------


@dataclass(frozen=True)
class Stage:
    """One stage.

    Args:
        name: its name.
        after: the stages whose output it reads.
        work: does it; returns the files and folders made.
        scratch: folder of unfinished work, removed once the stage is recorded.
    """

    name: str
    after: tuple[str, ...]
    work: Callable[[Run], Sequence[Path]]
    scratch: str = ""


def stages(config: RunConfig) -> tuple[Stage, ...]:
    """The stages of this configuration, in order."""
    exact = (Stage("reference", ("simulate",), _reference),) if config.reference else ()
    before_sample = ("simulate", "fit", *(stage.name for stage in exact))
    return (
        Stage("simulate", (), _simulate),
        Stage("fit", (), _fit, scratch="checkpoints/unfinished"),
        *exact,
        Stage("sample", before_sample, _sample, scratch="parts"),
        Stage("validate", ("sample",), _validate),
        Stage("report", ("sample", "validate"), _report),
    )


def run_stages(run: Run, names: Sequence[str] | None = None) -> None:
    """Do the named stages, all of them where none is named; what is done and whole is skipped.

    Raises:
        RunFolderError: a stage before the named ones has not been done.
        SbikitError: what a plug-in refuses.
    """
    with run.folder.locked():
        chosen = [s for s in stages(run.config) if names is None or s.name in names]
        valid = {stage.name: False for stage in stages(run.config)}
        run.prepare()
        for stage in stages(run.config):
            whole = all(valid[name] for name in stage.after)
            valid[stage.name] = whole and run.folder.done(stage.name, stage.after)
            if stage not in chosen:
                continue
            if valid[stage.name]:
                run.monitor.say(f"{stage.name}: done before")
                continue
            _require(run, stage, valid)
            _work(run, stage)
            valid[stage.name] = True


def _require(run: Run, stage: Stage, valid: Mapping[str, bool]) -> None:
    missing = [name for name in stage.after if not valid[name]]
    if missing:
        first = "sample" if missing[0] == "reference" else missing[0]
        raise RunFolderError(
            f"The stage {stage.name!r} comes after {missing[0]!r}, which is not done.",
            where=str(run.folder.path),
            fix=f"sbikit {first} {run.folder.path}",
        )


def _work(run: Run, stage: Stage) -> None:
    run.monitor.say(f"{stage.name} ...")
    began = monotonic()
    with run.provenance.timing(stage.name):
        outputs = stage.work(run)
        run.folder.finish(stage.name, stage.after, outputs)
    if stage.scratch:
        shutil.rmtree(run.folder.path / stage.scratch, ignore_errors=True)
    run.monitor.say(f"{stage.name}: done in {clock(monotonic() - began)}")


# --- the stages -----------------------------------------------------------------------------


def _simulate(run: Run) -> Sequence[Path]:
    """Held-out truths and observations."""
    total = run.config.sampling.observations
    total = max(total, run.config.sampling.reference_observations if run.config.reference else 0)
    chunks = []
    with run.monitor.progress("simulating held-out observations", total) as advance:
        for first in range(0, total, HELD_OUT_CHUNK):
            count = min(HELD_OUT_CHUNK, total - first)
            chunks.append(run.simulations.held_out(first, count))
            advance(count)
    _save(run.folder.held_out, _joined(chunks, 0), {})
    return [run.folder.held_out]


def _fit(run: Run) -> Sequence[Path]:
    """The fitted sampler."""
    folder, unfinished = run.folder.estimator, run.folder.unfinished
    unfinished.mkdir(parents=True, exist_ok=True)
    run.monitor.folder = unfinished
    try:
        seed = derive_seed(run.config.seed, "fit")
        sampler = run.estimator.fit(run.simulations, seed=seed, monitor=run.monitor)
    finally:
        run.monitor.folder = None
    fresh = folder.with_name("estimator.partial")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    run.estimator.save(sampler, fresh)
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)
    return [folder]


def _reference(run: Run) -> Sequence[Path]:
    """Draws of the reference sampler, one observation after the other."""
    reference = run.reference
    if reference is None:
        return []
    held_out, key = load_file(run.folder.held_out), run.folder.key("simulate")
    count, n = run.config.sampling.reference_observations, run.config.sampling.reference_draws
    parts, diagnostics = [], []
    for b in range(count):
        part = _Part(run.folder.parts / f"reference-{b:05d}.safetensors", key)
        if not part.whole():
            seed = derive_seed(run.config.seed, "reference", b)
            draws = _draw(reference, _observed(held_out, reference.spec, b, b + 1), n, seed)
            part.save(draws, {"diagnostics": json.dumps(_diagnostics(reference))})
        parts.append(part.load())
        diagnostics += json.loads(part.metadata()["diagnostics"])
    for b, found in enumerate(diagnostics):
        run.monitor.say(f"reference, observation {b}: {_in_words(found)}")
    run.provenance.note("reference", diagnostics)
    _save(run.folder.reference, _joined(parts, 1), {})
    return [run.folder.reference]


def _sample(run: Run) -> Sequence[Path]:
    """posterior.nc: draws for every held-out observation, and more for the one that is shown."""
    held_out, sampling = load_file(run.folder.held_out), run.config.sampling
    shown = _rows(held_out, run.simulator.spec, 0, 1)
    jobs = _jobs(run)
    ready = [job for job in jobs if job.part.whole()]
    total, before = (sum(job.size for job in some) for some in (jobs, ready))
    with run.monitor.progress("drawing posteriors", total, before) as advance:
        for job in jobs:
            if job in ready:
                continue
            seed = derive_seed(run.config.seed, job.stream, job.first)
            job.part.save(_draw(run.sampler, _observed(held_out, run.spec, job.first, job.last), job.n, seed))
            advance(job.size)
    *calibration, posterior = (job.part.load() for job in jobs)
    write_posterior(
        run.folder.posterior,
        spec=run.spec,
        posterior=_first(posterior, 1),
        observed=_first(shown, 0),
        summaries=_summaries(run.simulator, shown),
        truth=_first(shown, 0),
        reference=_first(load_file(run.folder.reference), 1) if run.config.reference else None,
        calibration_draws=_joined(calibration, 1),
        calibration_truth=_rows(held_out, run.spec, 0, sampling.observations),
        calibration_observed=_rows(held_out, run.spec, 0, sampling.observations),
    )
    return [run.folder.posterior]


def _validate(run: Run) -> Sequence[Path]:
    """metrics.json: what each validator found."""
    held_out = read_posterior(run.folder.posterior).held_out
    if held_out is None:
        raise RunFolderError("posterior.nc holds no calibration set.", where=str(run.folder.posterior))
    evidence = Evidence(
        spec=run.spec,
        truth=_tensors(held_out.truth),
        observation=_tensors(held_out.observed),
        draws=_tensors(held_out.draws),
        training=_training(run.simulations),
    )
    reports = []
    with run.monitor.progress("validating", len(run.validators)) as advance:
        for choice, validator in zip(run.config.validators, run.validators, strict=True):
            seed = derive_seed(run.config.seed, "validate", choice.name)
            reports.append(validator.validate(evidence, seed=seed))
            advance(1)
    write_metrics(run.folder.metrics, reports)
    return [run.folder.metrics]


def _report(run: Run) -> Sequence[Path]:
    """report.html and its figures."""
    from sbikit.report import write_report

    return [write_report(run.folder.path)]


def sample_observation(run: Run, file: Path, draws: int, out: Path) -> None:
    """Draw the trained posterior for new data.

    Args:
        run: a run whose fit is done.
        file: netCDF file with the observed variables.
        draws: how many.
        out: netCDF file to write.

    Raises:
        RunFolderError: the fit is not done.
        ObservationError: the file does not fit the simulator.
    """
    if not run.folder.done("fit", ()):
        raise RunFolderError(
            "There is no trained posterior in this run folder.",
            where=str(run.folder.path),
            fix=f"sbikit fit {run.folder.path}",
        )
    observation = read_observation(file, run.simulator.spec)
    seed = derive_seed(run.config.seed, "observation")
    found = _draw(run.sampler, _observed(observation, run.spec, 0, 1), draws, seed)
    write_posterior(
        out,
        spec=run.spec,
        posterior=_first(found, 1),
        observed=_first(observation, 0),
        summaries=_summaries(run.simulator, observation),
    )


# --- pieces ---------------------------------------------------------------------------------


class _Part:
    """One file of draws, valid only beside the key of the stages that it was made from."""

    def __init__(self, path: Path, key: str) -> None:
        self._path, self._key = path, key

    def metadata(self) -> dict[str, str]:
        """What was saved with the draws; {} where the file is missing or damaged."""
        try:
            with safe_open(self._path, "pt") as file:
                return dict(file.metadata() or {})
        except (OSError, SafetensorError):
            return {}

    def whole(self) -> bool:
        """Whether it is there and belongs to this run's stages."""
        return self.metadata().get("key") == self._key

    def save(self, draws: Values, extra: Mapping[str, str] | None = None) -> None:
        """Write it, all or nothing."""
        self._path.parent.mkdir(exist_ok=True)
        _save(self._path, draws, {"key": self._key, **(extra or {})})

    def load(self) -> dict[str, Tensor]:
        """The draws, each (n, B, *shape)."""
        return load_file(self._path)


@dataclass(frozen=True)
class _Job:
    """Draws to make: `n` for each of the held-out observations `first` to `last - 1`."""

    part: _Part
    stream: str
    first: int
    last: int
    n: int

    @property
    def size(self) -> int:
        """Number of draws."""
        return self.n * (self.last - self.first)


def _jobs(run: Run) -> list[_Job]:
    """What the stage `sample` draws: the calibration set in chunks, then the shown observation."""
    sampling, folder = run.config.sampling, run.folder.parts
    key = run.folder.key("simulate") + run.folder.key("fit")
    jobs = []
    for first in range(0, sampling.observations, SAMPLE_CHUNK):
        last = min(first + SAMPLE_CHUNK, sampling.observations)
        part = _Part(folder / f"draws-{first:05d}.safetensors", key)
        jobs.append(_Job(part, "sample", first, last, sampling.draws))
    shown = _Part(folder / "shown.safetensors", key)
    return [*jobs, _Job(shown, "shown", 0, 1, sampling.shown_draws)]


def _draw(sampler: Sampler, observation: Values, n: int, seed: int) -> dict[str, Tensor]:
    """Checked draws, each (n, B, *shape)."""
    draws = sampler.sample(observation, n, seed=seed)
    count = len(next(iter(observation.values())))
    check_values(draws, sampler.spec.latents, (n, count), f"{type(sampler).__name__}.sample")
    return {v.name: draws[v.name].float().cpu().contiguous() for v in sampler.spec.latents}


def _save(path: Path, values: Values, metadata: dict[str, str]) -> None:
    with replacing(path) as partial:
        save_file(dict(values), partial, metadata=metadata)


def _rows(values: Values, spec: Spec, first: int, last: int) -> dict[str, Tensor]:
    """Rows `first` to `last - 1` of every variable of `spec`."""
    return {v.name: values[v.name][first:last] for v in (*spec.latents, *spec.observables)}


def _observed(values: Values, spec: Spec, first: int, last: int) -> dict[str, Tensor]:
    """Rows `first` to `last - 1` of the observables: all that a sampler may see."""
    return {v.name: values[v.name][first:last] for v in spec.observables}


def _joined(parts: Sequence[Values], axis: int) -> dict[str, Tensor]:
    return {name: torch.cat([part[name] for part in parts], axis) for name in parts[0]}


def _first(values: Values, axis: int) -> dict[str, Tensor]:
    """The first entry along `axis` of each."""
    return {name: value.select(axis, 0) for name, value in values.items()}


def _tensors(arrays: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _summaries(simulator: Simulator, observation: Values) -> dict[str, Tensor] | None:
    """Summary maps of one observation (1, *shape), each (C, *grid)."""
    if not isinstance(simulator, SupportsSummaries):
        return None
    return _first(simulator.summaries(_observed(observation, simulator.spec, 0, 1)), 0)


def _training(simulations: Simulations) -> dict[str, Tensor]:
    starts = range(0, TRAINING_DRAWS, TRAINING_CHUNK)
    return _joined([simulations.training(first, TRAINING_CHUNK) for first in starts], 0)


def _diagnostics(sampler: Sampler) -> list[dict[str, Any]]:
    """What a sampler says of its latest draws, one entry an observation; [] if it says nothing."""
    found = getattr(sampler, "diagnostics", ())
    return [
        {key: _finite(value) for key, value in dataclasses.asdict(one).items()}
        for one in found
        if dataclasses.is_dataclass(one) and not isinstance(one, type)
    ]


def _finite(value: Any) -> Any:
    """The value with null for numbers that JSON lacks."""
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _in_words(found: Mapping[str, Any]) -> str:
    """Diagnostics on one line, lists by their range."""
    words = []
    for name, value in found.items():
        numbers = [v for v in value if isinstance(v, float)] if isinstance(value, list) else []
        if isinstance(value, bool):
            words.append(name if value else f"not {name}")
        elif numbers:
            words.append(f"{name} {min(numbers):.4g} to {max(numbers):.4g}")
        elif isinstance(value, int | float):
            words.append(f"{name} {value:.4g}")
    return ", ".join(words)
