"""What each stage of a run does, from the files of the run folder to further files.

Training simulations are drawn on the fly; the first of them are kept for the validators. What is judged is
the held-out stream. Random numbers come from (seed, purpose, number of the observation) and nothing else.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from torch import Tensor

from sbikit.learning.identity import describe_problem, fingerprint
from sbikit.problem.bounds import Bounds, bounds
from sbikit.problem.copies import copied
from sbikit.problem.errors import RunFolderError
from sbikit.problem.seeds import derive_seed
from sbikit.problem.spec import Spec
from sbikit.problem.variables import Values
from sbikit.roles.monitor import Workspace
from sbikit.roles.plugin import supports
from sbikit.roles.sampler import Draws
from sbikit.roles.simulator import Simulator, SupportsSummaries
from sbikit.roles.trust import announcement, doubts
from sbikit.roles.validator import Evidence, Report, report_constants
from sbikit.roles.variation import Constant
from sbikit.run.comparing import comparison, no_comparison, shown_reference
from sbikit.run.drawing import Work, observed, remaining
from sbikit.run.familiar import note, noted_draws
from sbikit.run.job import Run
from sbikit.run.own_store import kept_size
from sbikit.run.pace import note_pace
from sbikit.simulations.training import FirstDraws, TrainingStream
from sbikit.storage.draws import write_draws
from sbikit.storage.kept import read_kept, write_kept
from sbikit.storage.metrics import write_metrics
from sbikit.storage.read import read_posterior
from sbikit.storage.tensors import read_tensors, write_tensors
from sbikit.storage.write import write_posterior

# How much is done between two marks of progress, and lost by an interruption; no number depends on it.
HELD_OUT_CHUNK = 32  # simulations
SAMPLE_CHUNK = 16  # observations of few draws each
REFERENCE_CHUNK = 32  # observations: enough that chains of many advance in one batch
COMPARED_CHUNK = 4  # observations of many draws each
# Simulations that fix the scales and centres of validators: a standard deviation to 1.6 %. Those that the fit
# has drawn are kept for it; if they are fewer they do, down to 4.4 %.
TRAINING_DRAWS, LEAST_TRAINING = 2048, 256


def simulate(run: Run) -> Sequence[Path]:
    """Held-out truths and observations."""
    total = run.config.sampling.observations
    chunks = []
    began = monotonic()
    with run.monitor.progress("simulating held-out observations", total) as advance:
        for first in range(0, total, HELD_OUT_CHUNK):
            count = min(HELD_OUT_CHUNK, total - first)
            chunks.append(run.stream.held_out(first, count))
            if first == 0:
                run.stream.check(chunks[0], run.monitor)
            advance(count)
    note_pace(run, monotonic() - began, total)
    write_tensors(run.folder.held_out, _joined(chunks), {})
    return [run.folder.held_out]


def fit(run: Run) -> Sequence[Path]:
    """The fitted sampler; first-draws.safetensors: training simulations for the validators."""
    folder, unfinished = run.folder.estimator, run.folder.unfinished
    unfinished.mkdir(parents=True, exist_ok=True)
    resumed = any(unfinished.iterdir())
    kept = FirstDraws(run.folder.parts / "training", _made_by(run), TRAINING_DRAWS)
    sampler = run.estimator.fit(
        TrainingStream(run.simulations, kept),
        seed=derive_seed(run.config.seed, "fit"),
        workspace=Workspace(unfinished, run.device),
        monitor=run.monitor,
    )
    fresh = folder.with_name("estimator.partial")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    run.estimator.save(sampler, fresh)
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)
    if resumed:
        kept.complete(run.simulations)
    if first_draws := kept.joined():
        write_kept(run.folder.first_draws, first_draws, _made_by(run))
    note(run.folder.first_draws_noted, first_draws, run.simulator.spec.observables)
    shutil.rmtree(run.folder.parts / "training", ignore_errors=True)
    return [folder, run.folder.first_draws_noted]


def reference(run: Run) -> Sequence[Path]:
    """Draws of the reference sampler, many observations at once, with what it says of them."""
    sampler, choice = run.reference, run.config.reference
    if sampler is None or choice is None:
        return []
    held_out, sampling = _held_out(run), run.config.sampling
    work = Work("reference", sampling.reference_observations, sampling.reference_draws, REFERENCE_CHUNK)
    chunks = work.chunks(run.folder.parts, run.folder.ledger.key("simulate"))
    with remaining(run.monitor, "drawing the reference", chunks) as (missing, advance):
        for chunk in missing:
            chunk.save(chunk.draw(sampler, held_out, run.config.seed))
            advance(chunk.size)
    draws = Draws.joined([chunk.load() for chunk in chunks])
    for line in announcement(choice.name, draws.trust):
        run.monitor.say(line)
    write_draws(run.folder.reference, draws)
    return [run.folder.reference]


def sample(run: Run) -> Sequence[Path]:
    """posterior.nc: draws for every held-out observation, and more for the one that is shown.

    compared.safetensors: half as many draws as the reference's, for its observations.
    """
    held_out, sampling = _held_out(run), run.config.sampling
    count = sampling.reference_observations if run.config.reference else 0
    calibration, compared, shown = (
        work.chunks(run.folder.parts, run.folder.ledger.key("simulate") + run.folder.ledger.key("fit"))
        for work in (
            Work("sample", sampling.observations, sampling.draws, SAMPLE_CHUNK),
            Work("compared", count, sampling.reference_draws // 2, COMPARED_CHUNK),
            Work("shown", 1, sampling.shown_draws, 1),
        )
    )
    with remaining(run.monitor, "drawing posteriors", [*calibration, *compared, *shown]) as (
        missing,
        advance,
    ):
        for chunk in missing:
            chunk.save(chunk.draw(run.sampler, held_out, run.config.seed))
            advance(chunk.size)
    told = Draws.joined([chunk.load() for chunk in calibration])
    if words := doubts(told.trust):
        run.monitor.say(f"{run.config.estimator.name}: {words}")
    if compared:
        write_draws(run.folder.compared, Draws.joined([chunk.load() for chunk in compared]))
    _write_posterior(run, held_out, shown[0].load(), told)
    return [run.folder.posterior, *([run.folder.compared] if compared else [])]


def validate(run: Run) -> Sequence[Path]:
    """metrics.json: what each validator found."""
    reports: list[Report] = []
    comparing, training = [], _training(run)
    with run.monitor.progress("validating", len(run.validators)) as advance:
        for choice, validator in zip(run.config.validators, run.validators, strict=True):
            evidence, left_out = _evidence(run, training)
            if left_out and not reports:
                reports.append(report_constants(left_out))
                for part in left_out:
                    run.monitor.say(f"validate: {part.name} is left out, {part.words}")
            if evidence is None:
                run.monitor.say(f"validate: {choice.name} is left out, nothing of it can be judged")
            elif validator.needs_reference and evidence.comparison is None:
                run.monitor.say(f"validate: {choice.name} is left out, {no_comparison(run)}")
            else:
                seed = derive_seed(run.config.seed, "validate", choice.name)
                reports.append(validator.validate(evidence, seed=seed))
                comparing += [reports[-1].validator] if validator.needs_reference else []
            advance(1)
    write_metrics(run.folder.metrics, reports, comparing)
    return [run.folder.metrics]


def report(run: Run) -> Sequence[Path]:
    """report.html and its figures."""
    from sbikit.report.page import write_report

    return [write_report(run.folder.path), run.folder.path / "figures"]


# --- pieces ---------------------------------------------------------------------------------


def summarised(simulator: Simulator, observation: Values) -> dict[str, Tensor]:
    """Summary fields of one observation (1, *shape), each (C, *grid); none where the simulator has none."""
    if not supports(simulator, SupportsSummaries):
        return {}
    return first(simulator.summaries(copied(observed(observation, simulator.spec, 0, 1))), 0)


def bounds_of(run: Run) -> dict[str, Bounds]:
    """Between which numbers the inferred vectors lie."""
    return {v.name: bounds(v, run.simulator.prior) for v in run.spec.vectors}


def first(values: Values, axis: int) -> dict[str, Tensor]:
    """The first entry along `axis` of each."""
    return {name: value.select(axis, 0) for name, value in values.items()}


def _write_posterior(run: Run, held_out: Values, shown: Draws, calibration: Draws) -> None:
    seen = first(held_out, 0)
    everything = _rows(held_out, run.spec, run.config.sampling.observations)
    write_posterior(
        run.folder.posterior,
        spec=run.spec,
        posterior=first(shown.values, 1),
        observed=seen,
        summaries=summarised(run.simulator, _rows(held_out, run.simulator.spec, 1)),
        summarised=run.simulator.summarised,
        truth=seen,
        reference=shown_reference(run),
        calibration_draws=calibration.values,
        calibration_doubts=doubts(calibration.trust),
        calibration_truth=everything,
        calibration_observed=everything,
        bounds=bounds_of(run),
    )


def _evidence(run: Run, training: Values) -> tuple[Evidence | None, tuple[Constant, ...]]:
    """What a validator judges, read anew for each, so that none sees what another has done to it.

    And what does not vary, of which nothing can be judged.
    """
    held_out = read_posterior(run.folder.posterior).held_out
    if held_out is None:
        raise RunFolderError("posterior.nc holds no calibration set.", where=str(run.folder.posterior))
    return Evidence.judgeable(
        spec=run.spec,
        truth=_tensors(held_out.truth),
        observation=_tensors(held_out.observed),
        draws=_tensors(held_out.draws),
        training=copied(training),
        comparison=comparison(run),
    )


def _held_out(run: Run) -> dict[str, Tensor]:
    """What the stage `simulate` has drawn; its digest is checked before."""
    return read_tensors(run.folder.held_out)[0]


def _rows(values: Values, spec: Spec, count: int) -> dict[str, Tensor]:
    """The first rows of every variable of `spec`."""
    return {v.name: values[v.name][:count] for v in (*spec.latents, *spec.observables)}


def _joined(parts: Sequence[Values]) -> dict[str, Tensor]:
    """Each variable of all parts, one part after the other."""
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _tensors(arrays: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _training(run: Run) -> dict[str, Tensor]:
    """The first draws of the training stream: those of the fit, and more where they are too few.

    What is lost of them is drawn again, so that no figure depends on it.
    """
    kept = read_kept(run.folder.first_draws, _made_by(run)) or {}
    chunks, have = ([kept], len(kept[run.simulator.prior.name])) if kept else ([], 0)
    left = noted_draws(run.folder.first_draws_noted)
    kept_good = kept_size(run.folder)
    needed = max(left, LEAST_TRAINING if kept_good is None else min(LEAST_TRAINING, kept_good))
    if have >= needed:
        return kept
    why = f"those of the fit, {left}, are lost" if have < left else f"the fit left {left}"
    run.monitor.say(
        f"validate: {needed - have} training simulations are drawn for the validators, which need "
        f"{needed}; {why}"
    )
    title = "simulating for the validators"
    with run.monitor.progress(title, needed, have) as advance:
        for start in range(have, needed, HELD_OUT_CHUNK):
            count = min(HELD_OUT_CHUNK, needed - start)
            chunks.append(dict(run.simulations.training(start, count)))
            advance(count)
    return _joined(chunks)


def _made_by(run: Run) -> str:
    """What training simulations depend on."""
    problem = describe_problem(run.simulator, run.simulator.spec)
    return fingerprint(run.config.simulator.tree(), run.config.seed, problem)
