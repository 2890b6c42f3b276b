"""The stages of a run: simulate -> fit -> reference -> sample -> validate -> report.

Each reads and writes the run folder alone, so that a stage can be run by itself and the same command
goes on where it was interrupted.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from sbikit.problem.errors import RunFolderError
from sbikit.run import work
from sbikit.run.config import RunConfig
from sbikit.run.console_monitor import clock
from sbikit.run.job import Run


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
    return (
        Stage("simulate", (), work.simulate),
        Stage("fit", (), work.fit, scratch="checkpoints/unfinished"),
        *exact,
        Stage("sample", ("simulate", "fit", *compared), work.sample, scratch="parts"),
        Stage("validate", ("sample", *compared), work.validate),
        Stage("report", ("sample", "validate"), work.report),
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
            valid[stage.name] = whole and run.folder.ledger.done(stage.name, stage.after)
            if stage not in chosen:
                continue
            if valid[stage.name]:
                run.monitor.say(f"{stage.name}: done before")
                continue
            _require(run, stage, valid)
            _do(run, stage)
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


def _do(run: Run, stage: Stage) -> None:
    run.monitor.say(f"{stage.name} ...")
    began = monotonic()
    with run.provenance.timing(stage.name):
        outputs = stage.work(run)
        run.folder.ledger.finish(stage.name, stage.after, outputs)
    if stage.scratch:
        shutil.rmtree(run.folder.path / stage.scratch, ignore_errors=True)
    run.monitor.say(f"{stage.name}: done in {clock(monotonic() - began)}")
