"""What each stage of a run does, from the files of the run folder to further files.

Training simulations are drawn on the fly; the first of them are kept for the validators. What is judged is
the held-out stream. Random numbers come from (seed, purpose, number of the observation) and nothing else.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from torch import Tensor

from sbikit.problem.bounds import Bounds, bounds
from sbikit.problem.copies import copied
from sbikit.problem.errors import RunFolderError
from sbikit.problem.seeds import derive_seed
from sbikit.problem.spec import Spec
from sbikit.problem.variables import Values
from sbikit.roles.evidence import Evidence
from sbikit.roles.monitor import Workspace
from sbikit.roles.plugin import supports
from sbikit.roles.sampler import Draws, SupportsBatches
from sbikit.roles.simulator import Simulator, SupportsSummaries
from sbikit.roles.stored_draws import StoredDraws
from sbikit.roles.trust import Trust, announcement, doubts
from sbikit.roles.validator import Report, Validator, report_constants
from sbikit.roles.variation import Constant, Judged, constants
from sbikit.runs.comparing import comparison, no_comparison, shown_reference
from sbikit.runs.config import Choice
from sbikit.runs.devices import choose_precision
from sbikit.runs.drawers import draw_chunks
from sbikit.runs.drawing import Chunk, Work, remaining
from sbikit.runs.familiar import note, noted_draws
from sbikit.runs.fitting import LEAST_TRAINING, first_draws, fit_here, fresh_estimator, made_by
from sbikit.runs.job import Run
from sbikit.runs.own_store import gives_draws, kept_size
from sbikit.runs.pace import note_pace
from sbikit.storage.draws import write_stored_draws
from sbikit.storage.kept import read_kept, write_kept
from sbikit.storage.metrics import write_metrics
from sbikit.storage.read import read_held_out
from sbikit.storage.tensors import read_tensors, write_tensors
from sbikit.storage.write import write_posterior

# How much is done between two marks of progress, and lost by an interruption; no number depends on it. Where
# draws are large there are fewer observations in a chunk, down to one.
HELD_OUT_CHUNK = 32  # simulations
SAMPLE_CHUNK = 16  # observations of few draws each
REFERENCE_CHUNK = 32  # observations: enough that chains of many advance in one batch
COMPARED_CHUNK = 4  # observations of many draws each
SAMPLE_BYTES, REFERENCE_BYTES = 2**27, 2**29  # a chunk, which takes some four times as much while it is made


def simulate(run: Run) -> Sequence[Path]:
    """Held-out truths and observations."""
    total = run.config.sampling.observations
    chunks = []
    began = monotonic()
    with run.monitor.progress("simulating held-out observations", total) as advance:
        for first in range(0, total, HELD_OUT_CHUNK):
            count = min(HELD_OUT_CHUNK, total - first)
            chunks.append(dict(run.held_out.held_out(first, count)))
            if first == 0 and run.held_out is run.stream:
                run.stream.check(chunks[0], run.monitor)
            advance(count)
    if run.held_out is run.stream:
        note_pace(run, monotonic() - began, total)
    write_tensors(run.folder.held_out, _joined(chunks), {})
    return [run.folder.held_out]


def fit(run: Run) -> Sequence[Path]:
    """The fitted sampler; first-draws.safetensors: training simulations for the validators."""
    folder, unfinished = run.folder.estimator, run.folder.unfinished
    unfinished.mkdir(parents=True, exist_ok=True)
    resumed = any(unfinished.iterdir())
    if run.devices.count > 1:
        from sbikit.runs.ranks import fit_on_devices

        kept = first_draws(run, reached=fit_on_devices(run))
    else:
        kept = first_draws(run)
        dtype = choose_precision(run.devices.precision, run.device)
        where = Workspace(unfinished, run.device, at_once=run.devices.batch, precision=dtype)
        fit_here(run, kept, where, run.monitor)
    shutil.rmtree(folder, ignore_errors=True)
    fresh_estimator(run).rename(folder)
    if resumed:
        kept.complete(run.simulations)
    if drawn := kept.joined():
        write_kept(run.folder.first_draws, drawn, made_by(run))
    note(run.folder.first_draws_noted, drawn, run.simulator.spec.observables)
    shutil.rmtree(run.folder.parts / "training", ignore_errors=True)
    return [folder, run.folder.first_draws_noted]


def reference(run: Run) -> Sequence[Path]:
    """Draws of the reference sampler, many observations at once, with what it says of them."""
    sampler, choice = run.reference, run.config.reference
    if sampler is None or choice is None:
        return []
    sampling, batched = run.config.sampling, supports(sampler, SupportsBatches)
    work = Work(
        "reference",
        sampling.reference_observations,
        sampling.reference_draws,
        REFERENCE_CHUNK if batched else run.shared(sampling.reference_observations, REFERENCE_CHUNK),
        sampler.spec,
        REFERENCE_BYTES,
    )
    chunks = work.chunks(run.folder.parts, run.folder.ledger.key("simulate"))
    if supports(sampler, SupportsBatches) and run.drawers > 1:
        held_out = _held_out(run)
        chunks = [part for chunk in chunks for part in chunk.divided(sampler, sampler.spec, held_out)]
    with remaining(run.monitor, "drawing the reference", chunks) as (missing, advance):
        draw_chunks(run, missing, advance, exact=True)
    trust = _trust(chunks)
    for line in announcement(choice.name, trust):
        run.monitor.say(line)
    write_stored_draws(run.folder.reference, work.stored(chunks), trust)
    return [run.folder.reference]


def sample(run: Run) -> Sequence[Path]:
    """posterior.nc: draws for every held-out observation, and more for the one that is shown.

    compared.safetensors: half as many draws as the reference's, for its observations.
    """
    held_out, sampling, spec = _held_out(run), run.config.sampling, run.spec
    count = sampling.reference_observations if run.config.reference else 0
    works = (
        Work(
            "sample",
            sampling.observations,
            sampling.draws,
            run.shared(sampling.observations, SAMPLE_CHUNK),
            spec,
            SAMPLE_BYTES,
        ),
        Work("compared", count, sampling.reference_draws // 2, COMPARED_CHUNK, spec, SAMPLE_BYTES),
        Work("shown", 1, sampling.shown_draws, 1, spec, SAMPLE_BYTES),
    )
    key = run.folder.ledger.key("simulate") + run.folder.ledger.key("fit")
    calibration, compared, shown = (work.chunks(run.folder.parts, key) for work in works)
    with remaining(run.monitor, "drawing posteriors", [*calibration, *compared, *shown]) as (
        missing,
        advance,
    ):
        draw_chunks(run, missing, advance, exact=False)
    words = doubts(_trust(calibration))
    if words:
        run.monitor.say(f"{run.config.estimator.name}: {words}")
    if compared:
        write_stored_draws(run.folder.compared, works[1].stored(compared), _trust(compared))
    _write_posterior(run, held_out, shown[0].load(), works[0].stored(calibration), words)
    return [run.folder.posterior, *([run.folder.compared] if compared else [])]


def validate(run: Run) -> Sequence[Path]:
    """metrics.json: what each validator found."""
    reports: list[Report] = []
    comparing: list[str] = []
    left_out, evidence_for_one = _evidence(run)
    if left_out:
        reports.append(report_constants(left_out))
        for part in left_out:
            run.monitor.say(f"validate: {part.name} is left out, {part.words}")
    with run.monitor.progress("validating", len(run.validators)) as advance:
        for choice, validator in zip(run.config.validators, run.validators, strict=True):
            found = _judge(run, choice, validator, evidence_for_one())
            reports += found
            comparing += [one.validator for one in found if validator.needs_reference]
            advance(1)
    write_metrics(run.folder.metrics, reports, comparing)
    return [run.folder.metrics]


def report(run: Run) -> Sequence[Path]:
    """report.html and its figures."""
    from sbikit.pages.page import write_report

    return [write_report(run.folder.path), run.folder.path / "figures"]


# --- pieces ---------------------------------------------------------------------------------


def summarised(simulator: Simulator, observation: Values) -> dict[str, Tensor]:
    """Summaries of observations, each (B, *shape); none where the simulator has none."""
    if not supports(simulator, SupportsSummaries):
        return {}
    return dict(
        simulator.summaries(copied({v.name: observation[v.name] for v in simulator.spec.observables}))
    )


def bounds_of(run: Run) -> dict[str, Bounds]:
    """Between which numbers the inferred vectors lie."""
    return {v.name: bounds(v, run.simulator.prior) for v in run.spec.vectors}


def first(values: Values, axis: int) -> dict[str, Tensor]:
    """The first entry along `axis` of each."""
    return {name: value.select(axis, 0) for name, value in values.items()}


def _write_posterior(
    run: Run, held_out: Values, shown: Draws, calibration: StoredDraws, doubted: str
) -> None:
    seen = first(held_out, 0)
    everything = _rows(held_out, run.spec, run.config.sampling.observations)
    with run.monitor.progress("writing posterior.nc", len(next(iter(everything.values())))) as advance:
        write_posterior(
            run.folder.posterior,
            spec=run.spec,
            posterior=first(shown.values, 1),
            observed=seen,
            summaries=first(summarised(run.simulator, _rows(held_out, run.simulator.spec, 1)), 0),
            summarised=run.simulator.summarised,
            truth=seen,
            reference=shown_reference(run),
            calibration_draws=calibration,
            calibration_doubts=doubted,
            calibration_truth=everything,
            calibration_observed=everything,
            bounds=bounds_of(run),
            advance=advance,
        )


def _trust(chunks: Sequence[Chunk]) -> tuple[Trust, ...]:
    """What the sampler says of its draws, one an observation."""
    return tuple(one for chunk in chunks for one in chunk.trust())


def _evidence(run: Run) -> tuple[tuple[Constant, ...], Callable[[], Evidence | None]]:
    """What does not vary, of which nothing can be judged; and what makes the evidence for one validator.

    It is read anew for each, so that none sees what another has done to it; draws are read from the disk each
    time they are asked for.
    """
    _complete_training(run)
    beside = comparison(run)
    held_out = read_held_out(run.folder.posterior)
    exact = {} if beside is None else beside.exact
    left_out = tuple(constants(run.spec, _tensors(held_out.truth), held_out.draws, exact))
    judged = Judged.of(run.spec, left_out)

    def for_one() -> Evidence | None:
        if judged is None:
            return None
        found = read_held_out(run.folder.posterior)
        return Evidence.of(
            judged,
            truth=_tensors(found.truth),
            observation=_tensors(found.observed),
            draws=found.draws,
            training=_training(run),
            comparison=beside,
        )

    return left_out, for_one


def _judge(run: Run, choice: Choice, validator: Validator, evidence: Evidence | None) -> list[Report]:
    """What one validator finds; nothing where it has nothing to judge, which is said."""
    if evidence is None:
        run.monitor.say(f"validate: {choice.name} is left out, nothing of it can be judged")
        return []
    if validator.needs_reference and evidence.comparison is None:
        run.monitor.say(f"validate: {choice.name} is left out, {no_comparison(run)}")
        return []
    return [validator.validate(evidence, seed=derive_seed(run.config.seed, "validate", choice.name))]


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
    """The first draws of the training stream, which are there since `_complete_training`."""
    kept = read_kept(run.folder.first_draws, made_by(run))
    if kept is None:
        raise RunFolderError(
            "The training simulations for the validators were damaged while these were at work.",
            where=str(run.folder.first_draws),
            fix=f"sbikit validate {run.folder.path}",
        )
    return kept


def _complete_training(run: Run) -> None:
    """See to the first draws of the training stream: those of the fit, and more where they are too few.

    What is lost of them is drawn again, so that no figure depends on it.
    """
    kept = read_kept(run.folder.first_draws, made_by(run)) or {}
    chunks, have = ([kept], len(kept[run.simulator.prior.name])) if kept else ([], 0)
    left = noted_draws(run.folder.first_draws_noted)
    # The record of what was kept outlives it; of draws that were given some are held out.
    size = run.simulations.size if gives_draws(run.config) else kept_size(run.folder)
    needed = max(left, LEAST_TRAINING if size is None else min(LEAST_TRAINING, size))
    if have >= needed:
        return
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
    write_kept(run.folder.first_draws, _joined(chunks), made_by(run))
