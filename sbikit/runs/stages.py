"""The stages of a run: simulate -> keep -> fit -> reference -> sample -> validate -> report.

Each reads and writes the run folder alone, so that a stage can be run by itself and the same command
goes on where it was interrupted.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from sbikit.problem.errors import RunFolderError
from sbikit.runs import kept, work
from sbikit.runs.config import RunConfig
from sbikit.runs.console_monitor import clock
from sbikit.runs.depends import another_configuration, depends_on
from sbikit.runs.job import Run
from sbikit.runs.own_store import fault, gives_draws
from sbikit.runs.pace import advise
from sbikit.runs.room import check_room


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
    reference = Stage("reference", ("simulate",), work.reference, scratch="parts/reference")
    exact = (reference,) if config.reference else ()
    compared = tuple(stage.name for stage in exact)
    given = gives_draws(config)
    keep = (Stage("keep", (), kept.keep),) if given or config.simulations.count else ()
    # Draws that were made elsewhere are all that there are: held-out ones are some of them.
    simulate = Stage("simulate", ("keep",) if given else (), work.simulate)
    return (
        *((*keep, simulate) if given else (simulate, *keep)),
        Stage("fit", tuple(stage.name for stage in keep), work.fit, scratch="checkpoints/unfinished"),
        *exact,
        Stage("sample", ("simulate", "fit", *compared), work.sample, scratch="parts"),
        Stage("validate", ("sample", *compared), work.validate),
        Stage("report", ("sample", "validate"), work.report),
    )


def after(config: RunConfig, name: str) -> tuple[str, ...]:
    """The stages whose output a stage of this configuration reads."""
    return next(stage.after for stage in stages(config) if stage.name == name)


def run_stages(
    run: Run, names: Sequence[str] | None = None, *, redo: bool = False, growing: bool = False
) -> None:
    """Do the named stages, all of them where none is named; what is done and whole is skipped.

    Args:
        run: the run.
        names: the stages.
        redo: whether stages that were made, or begun, with another configuration are dropped and done again.
        growing: whether other stages than the named ones may have been made with another configuration, as
            yet, and what is kept is compared with its digests.

    Raises:
        RunFolderError: a stage before the named ones has not been done, or one was made with another
            configuration than the folder has now.
        SbikitError: what a plug-in refuses.
    """
    with run.folder.locked(), closing(run):
        chosen = [s for s in stages(run.config) if names is None or s.name in names]
        valid = {stage.name: False for stage in stages(run.config)}
        settle_configuration(run, chosen if growing else None, redo=redo)
        run.prepare()
        check_room(run, [stage.name for stage in chosen if not run.folder.ledger.key(stage.name)])
        for stage in stages(run.config):
            if growing and stage.name == "keep":
                kept.mend(run)
            whole = all(valid[name] for name in stage.after)
            why = _fault(run, stage, chosen)
            valid[stage.name] = whole and bool(run.folder.ledger.key(stage.name)) and not why
            if stage not in chosen:
                continue
            if valid[stage.name]:
                run.monitor.say(f"{stage.name}: done before")
                continue
            _require(run, stage, valid)
            if stage.name == "fit":
                advise(run)
            _do(run, stage, why)
            valid[stage.name] = True


def settle_configuration(run: Run, some: Sequence[Stage] | None = None, *, redo: bool = False) -> None:
    """See to it that nothing is mixed with what another configuration has made.

    Args:
        run: the run.
        some: the stages that are looked at; None: all.
        redo: see `run_stages`.

    Raises:
        RunFolderError: a stage was made, or begun, with another configuration, and `redo` does not allow to
            drop that; or the log of the training is not as the training left it.
    """
    ledger = run.folder.ledger
    for stage in stages(run.config) if some is None else some:
        wrong = ledger.differs(stage.name, depends_on(run.config, stage.name))
        if wrong and not redo:
            raise another_configuration(run.folder.path, stage.name, wrong)
        if wrong:
            _drop(run, stage)
    for name in ledger.changed_logs("fit"):
        raise RunFolderError(
            f"{name} is damaged or was changed since the training, and the report would show it.",
            where=str(run.folder.path / name),
            fix="restore it from a copy, or delete it: the report then has no section about the training",
        )


def _drop(run: Run, stage: Stage) -> None:
    run.monitor.say(f"{stage.name}: made with another configuration; dropped")
    run.folder.ledger.forget(stage.name)
    if stage.scratch:
        shutil.rmtree(run.folder.path / stage.scratch, ignore_errors=True)
    if stage.name == "keep" and run.config.simulations.store is None:
        shutil.rmtree(run.folder.store, ignore_errors=True)  # one that others may share is refused instead
    if stage.name == "simulate":
        run.folder.left_out.unlink(missing_ok=True)
    if stage.name == "fit":
        run.folder.training.unlink(missing_ok=True)
        run.folder.first_draws.unlink(missing_ok=True)
        run.folder.first_draws_noted.unlink(missing_ok=True)
        shutil.rmtree(run.folder.parts / "training", ignore_errors=True)


def _fault(run: Run, stage: Stage, chosen: Sequence[Stage]) -> str:
    """Why a stage that was done is done no longer; "" if nothing is wrong, or it never was.

    What was kept need not be there any more once it was fitted to, unless it alone is asked for.
    """
    ledger = run.folder.ledger
    why = ledger.fault(stage.name, stage.after)
    if why or stage.name != "keep" or not ledger.key("keep"):
        return why
    asked_for = stage in chosen and all(one.name != "fit" for one in chosen)
    return fault(run.folder, run.simulator) if asked_for or not ledger.done("fit", ("keep",)) else ""


def _require(run: Run, stage: Stage, valid: Mapping[str, bool]) -> None:
    missing = [name for name in stage.after if not valid[name]]
    if missing:
        first = {"reference": "sample", "keep": "simulate"}.get(missing[0], missing[0])
        why = _fault(run, next(one for one in stages(run.config) if one.name == missing[0]), ())
        raise RunFolderError(
            f"The stage {stage.name!r} comes after {missing[0]!r}, which is not done"
            + (f" any more: {why}." if why else "."),
            where=str(run.folder.path),
            fix=f"sbikit {first} {run.folder.path}",
        )


def _do(run: Run, stage: Stage, why: str) -> None:
    ledger = run.folder.ledger
    run.monitor.say(f"{stage.name}: {why}; it is done again ..." if why else f"{stage.name} ...")
    began = monotonic()
    ledger.begin(stage.name, depends_on(run.config, stage.name))
    with run.provenance.timing(stage.name):
        kept.note_left_out(run)
        outputs = stage.work(run)
        logs = [run.folder.training] if stage.name == "fit" else []
        ledger.finish(stage.name, stage.after, outputs, logs)
    if stage.scratch:
        shutil.rmtree(run.folder.path / stage.scratch, ignore_errors=True)
    run.monitor.say(f"{stage.name}: done in {clock(monotonic() - began)}")
