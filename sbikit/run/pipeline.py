"""The stages of a run: simulate -> fit -> reference -> sample -> validate -> report.

Each reads and writes the run folder alone, so that a stage can be run by itself and the same command
goes on where it was interrupted. Training simulations are drawn on the fly and never stored; what is
judged is the held-out stream. Random numbers come from (seed, purpose) and from nothing else.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from time import monotonic
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from sbikit.plugins import registry
from sbikit.problem.errors import DeviceError, OptionError, RunFolderError, UnsupportedError
from sbikit.problem.seeds import derive_seed
from sbikit.problem.spec import Spec
from sbikit.problem.variables import Values
from sbikit.roles.estimator import Estimator
from sbikit.roles.sampler import Sampler
from sbikit.roles.simulator import Simulator, SupportsSummaries
from sbikit.roles.trust import Record, announcement, decode, encode, trust_records, trusted
from sbikit.roles.validator import Comparison, Evidence, Validator
from sbikit.run.config import RunConfig
from sbikit.run.drawing import Work, draw, joined, observed, remaining, save
from sbikit.run.progress import ConsoleMonitor, clock
from sbikit.run.provenance import Provenance
from sbikit.run.runfolder import RunFolder
from sbikit.simulations.stream import Simulations
from sbikit.storage.metrics import write_metrics
from sbikit.storage.observation import read_observation
from sbikit.storage.read import read_posterior
from sbikit.storage.write import write_posterior

HELD_OUT_CHUNK = 32
SAMPLE_CHUNK = 16
REFERENCE_CHUNK = 32
COMPARED_CHUNK = 4  # many draws an observation
FEWEST_COMPARED = 2
_TRUST = "diagnostics"  # what the reference says of its draws, in the metadata of their files
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
        self._refuse_lesser_reference()
        self.provenance.note("inferred", [v.name for v in self.spec.latents])

    def _refuse_lesser_reference(self) -> None:
        """Refuse a reference that leaves out what is to be compared with it."""
        if self.reference is None or self.config.reference is None:
            return
        name, known = self.config.reference.name, self.reference.spec.latents
        missing = [v.name for v in self.spec.latents if v not in known]
        if missing:
            raise UnsupportedError(
                f"The reference {name!r} does not infer all that {self.config.estimator.name!r} infers.",
                where=f"reference {name}",
                expected=", ".join(v.name for v in self.spec.latents),
                got=", ".join(v.name for v in known),
                fix="choose another reference, or none",
            )


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
    reference = Stage("reference", ("simulate",), _reference, scratch="parts/reference")
    exact = (reference,) if config.reference else ()
    compared = tuple(stage.name for stage in exact)
    return (
        Stage("simulate", (), _simulate),
        Stage("fit", (), _fit, scratch="checkpoints/unfinished"),
        *exact,
        Stage("sample", ("simulate", "fit", *compared), _sample, scratch="parts"),
        Stage("validate", ("sample", *compared), _validate),
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
    chunks = []
    with run.monitor.progress("simulating held-out observations", total) as advance:
        for first in range(0, total, HELD_OUT_CHUNK):
            count = min(HELD_OUT_CHUNK, total - first)
            chunks.append(run.simulations.held_out(first, count))
            advance(count)
    save(run.folder.held_out, joined(chunks, 0))
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
    """Draws of the reference sampler, many observations at once, with what it says of them."""
    reference, choice = run.reference, run.config.reference
    if reference is None or choice is None:
        return []
    held_out, sampling = load_file(run.folder.held_out), run.config.sampling
    work = Work("reference", sampling.reference_observations, sampling.reference_draws, REFERENCE_CHUNK)
    chunks = work.chunks(run.folder.parts, run.folder.key("simulate"))
    with remaining(run.monitor, "drawing the reference", chunks) as (missing, advance):
        for chunk in missing:
            draws = chunk.draw(reference, held_out, run.config.seed)
            chunk.save(draws, {_TRUST: encode(trust_records(reference, chunk.last - chunk.first))})
            advance(chunk.size)
    records = [record for chunk in chunks for record in decode(chunk.metadata()[_TRUST])]
    for line in announcement(choice.name, records):
        run.monitor.say(line)
    run.provenance.note("reference", records)
    save(run.folder.reference, joined([chunk.load() for chunk in chunks], 1), {_TRUST: encode(records)})
    return [run.folder.reference]


def _sample(run: Run) -> Sequence[Path]:
    """posterior.nc: draws for every held-out observation, and more for the one that is shown.

    compared.safetensors: half as many draws as the reference's, for its observations.
    """
    held_out, sampling = load_file(run.folder.held_out), run.config.sampling
    shown = _rows(held_out, run.simulator.spec, 0, 1)
    half = sampling.reference_draws // 2
    count = sampling.reference_observations if run.config.reference else 0
    calibration, compared, posterior = (
        work.chunks(run.folder.parts, run.folder.key("simulate") + run.folder.key("fit"))
        for work in (
            Work("sample", sampling.observations, sampling.draws, SAMPLE_CHUNK),
            Work("compared", count, half, COMPARED_CHUNK),
            Work("shown", 1, sampling.shown_draws, 1),
        )
    )
    chunks = [*calibration, *compared, *posterior]
    with remaining(run.monitor, "drawing posteriors", chunks) as (missing, advance):
        for chunk in missing:
            chunk.save(chunk.draw(run.sampler, held_out, run.config.seed))
            advance(chunk.size)
    if compared:
        save(run.folder.compared, joined([chunk.load() for chunk in compared], 1))
    write_posterior(
        run.folder.posterior,
        spec=run.spec,
        posterior=_first(posterior[0].load(), 1),
        observed=_first(shown, 0),
        summaries=_summaries(run.simulator, shown),
        truth=_first(shown, 0),
        reference=_shown_reference(run),
        calibration_draws=joined([chunk.load() for chunk in calibration], 1),
        calibration_truth=_rows(held_out, run.spec, 0, sampling.observations),
        calibration_observed=_rows(held_out, run.spec, 0, sampling.observations),
    )
    return [run.folder.posterior, *([run.folder.compared] if compared else [])]


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
        comparison=_comparison(run),
    )
    reports, comparing = [], []
    with run.monitor.progress("validating", len(run.validators)) as advance:
        for choice, validator in zip(run.config.validators, run.validators, strict=True):
            if validator.needs_reference and evidence.comparison is None:
                run.monitor.say(f"validate: {choice.name} is left out, {_no_comparison(run)}")
            else:
                seed = derive_seed(run.config.seed, "validate", choice.name)
                reports.append(validator.validate(evidence, seed=seed))
                comparing += [reports[-1].validator] if validator.needs_reference else []
            advance(1)
    write_metrics(run.folder.metrics, reports, comparing)
    return [run.folder.metrics]


def _report(run: Run) -> Sequence[Path]:
    """report.html and its figures."""
    from sbikit.report import write_report

    return [write_report(run.folder.path)]


def sample_observation(run: Run, file: Path, draws: int, out: Path) -> None:
    """Draw the trained posterior for new data.

    Args:
        run: a run whose fit is done.
        file: file with the observed variables, see `sbikit.storage.observation.read_observation`.
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
    found = draw(run.sampler, observed(observation, run.spec, 0, 1), draws, seed)
    write_posterior(
        out,
        spec=run.spec,
        posterior=_first(found, 1),
        attributes={"sampler": run.config.estimator.name},
        observed=_first(observation, 0),
        summaries=_summaries(run.simulator, observation),
    )


def sample_reference(run: Run, file: Path, draws: int, out: Path) -> Record:
    """Draw the run's reference sampler for new data; nothing of the run need be done.

    Args:
        run: a run with a reference.
        file: file with the observed variables, see `sbikit.storage.observation.read_observation`.
        draws: how many.
        out: netCDF file to write; attributes of its group `posterior` hold the diagnostics.

    Returns:
        What the sampler says of its draws, `trustworthy` among it.

    Raises:
        OptionError: the run has no reference.
        ObservationError: the file does not fit the simulator.
    """
    reference, choice = run.reference, run.config.reference
    if reference is None or choice is None:
        raise OptionError(
            "This run has no reference sampler.",
            where=str(run.folder.path / "run.yaml"),
            expected="reference: {name: ...}",
            got="reference: null",
            fix="make a run folder that has one: sbikit init DIR --reference hmc",
        )
    observation = read_observation(file, run.simulator.spec)
    seed = derive_seed(run.config.seed, "reference observation")
    found = draw(reference, observed(observation, reference.spec, 0, 1), draws, seed)
    (record,) = trust_records(reference, 1)
    write_posterior(
        out,
        spec=reference.spec,
        posterior=_first(found, 1),
        attributes={"sampler": choice.name, **record},
        observed=_first(observation, 0),
        summaries=_summaries(run.simulator, observation),
    )
    return record


# --- pieces ---------------------------------------------------------------------------------


def _reference_trust(run: Run) -> list[Record]:
    """What the reference said of its draws, a record an observation.

    Raises:
        RunFolderError: the file says nothing, as those of older versions.
    """
    path = run.folder.reference
    try:
        with safe_open(path, "pt") as file:
            return decode((file.metadata() or {})[_TRUST])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise RunFolderError(
            "The draws of the reference lack its diagnostics.",
            where=str(path),
            got=f"{type(error).__name__}: {error}",
            fix=f"delete the file and go on: sbikit sample {run.folder.path}",
        ) from None


def _shown_reference(run: Run) -> dict[str, Tensor] | None:
    """The reference's draws for the shown observation, each (n, *shape), if they can be trusted."""
    if run.config.reference is None or not _reference_trust(run)[0]["trustworthy"]:
        return None
    return _first(load_file(run.folder.reference), 1)


def _comparison(run: Run) -> Comparison | None:
    """The reference beside the estimator where it can be trusted; None where that is too seldom."""
    if run.config.reference is None:
        return None
    rows = trusted(_reference_trust(run))
    if len(rows) < FEWEST_COMPARED:
        return None
    exact, draws = load_file(run.folder.reference), load_file(run.folder.compared)
    names = [v.name for v in run.spec.latents]
    half = len(draws[names[0]])
    return Comparison(
        name=run.config.reference.name,
        rows=tuple(rows),
        exact={name: exact[name][: 2 * half, rows] for name in names},
        draws={name: draws[name][:, rows] for name in names},
    )


def _no_comparison(run: Run) -> str:
    """Why there is none."""
    if run.config.reference is None:
        return "because there is no reference"
    records = _reference_trust(run)
    return (
        f"because {run.config.reference.name} is to be trusted for {len(trusted(records))} of {len(records)} "
        f"observations, and {FEWEST_COMPARED} are needed"
    )


def _rows(values: Values, spec: Spec, first: int, last: int) -> dict[str, Tensor]:
    """Rows `first` to `last - 1` of every variable of `spec`."""
    return {v.name: values[v.name][first:last] for v in (*spec.latents, *spec.observables)}


def _first(values: Values, axis: int) -> dict[str, Tensor]:
    """The first entry along `axis` of each."""
    return {name: value.select(axis, 0) for name, value in values.items()}


def _tensors(arrays: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _summaries(simulator: Simulator, observation: Values) -> dict[str, Tensor] | None:
    """Summary maps of one observation (1, *shape), each (C, *grid)."""
    if not isinstance(simulator, SupportsSummaries):
        return None
    return _first(simulator.summaries(observed(observation, simulator.spec, 0, 1)), 0)


def _training(simulations: Simulations) -> dict[str, Tensor]:
    starts = range(0, TRAINING_DRAWS, TRAINING_CHUNK)
    return joined([simulations.training(first, TRAINING_CHUNK) for first in starts], 0)
