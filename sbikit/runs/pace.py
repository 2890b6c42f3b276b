"""How long a simulation takes, measured on the held-out ones, and what that means for the training."""

from __future__ import annotations

import os
import shlex

from sbikit.runs.console_monitor import clock
from sbikit.runs.job import Run

_PATIENCE = 1800.0  # seconds of simulating: training takes as long, and draws ahead where there are workers
_ENOUGH = 10_000  # simulations that are kept instead


def note_pace(run: Run, seconds: float, draws: int) -> None:
    """Note how long a draw takes a worker, from the time that all workers took for some."""
    run.provenance.note("seconds_a_draw", seconds * run.place.workers / draws)


def advise(run: Run) -> None:
    """Say where training would wait for simulations, and how to keep some instead."""
    seconds, wanted = run.provenance.noted("seconds_a_draw"), run.estimator.draws_wanted()
    if run.simulations.size is not None or seconds is None or wanted is None:
        return
    whole = seconds * wanted / run.place.workers
    if whole < _PATIENCE:
        return
    at_once, name = run.place.workers, run.config.estimator.name
    workers = at_once if run.place.dask else max(at_once, os.cpu_count() or 1)
    kept, folder = min(_ENOUGH, wanted), run.folder.path
    shorter = clock(seconds * kept / workers)
    run.monitor.say(
        f"A simulation takes {seconds:.3g} s, and {name} asks for {wanted:,}: "
        f"{clock(whole)} with {at_once} at a time, for which training will wait."
    )
    run.monitor.say(
        f"To make {kept:,} once and train on those, which takes {shorter} with {workers} at a time:"
    )
    where = "" if run.place.dask else f" --workers {workers}"
    quoted, file = shlex.quote(str(folder)), shlex.quote(str(folder / "run.yaml"))
    run.monitor.say(f"  sbikit simulate {quoted} --simulations {kept}{where}")
    run.monitor.say(f"  sbikit run --config {file} --out {quoted} --redo")
