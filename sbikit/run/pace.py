"""How long a simulation takes, measured on the held-out ones, and what that means for the training."""

from __future__ import annotations

import os

from sbikit.run.console_monitor import clock
from sbikit.run.job import Run

_PATIENCE = 1800.0  # seconds of simulating: training takes as long, and draws ahead where there are workers
_ENOUGH = 10_000  # simulations that are kept instead


def note_pace(run: Run, seconds: float, draws: int) -> None:
    """Note how long a draw takes a worker, from the time that all workers took for some."""
    run.provenance.note("seconds_a_draw", seconds * run.place.workers / draws)


def advise(run: Run) -> None:
    """Say where training would wait for simulations, and how to keep some instead."""
    seconds, wanted = run.provenance.noted("seconds_a_draw"), run.estimator.draws_wanted()
    if run.config.simulations.count is not None or seconds is None or wanted is None:
        return
    whole = seconds * wanted / run.place.workers
    if whole < _PATIENCE:
        return
    workers = max(run.place.workers, os.cpu_count() or 1)
    kept = min(_ENOUGH, wanted)
    folder = run.folder.path
    run.monitor.say(
        f"A simulation takes {seconds:.3g} s. {run.config.estimator.name} asks for {wanted:,}, {clock(whole)} "
        f"of simulating with {run.place.workers} at a time: training will wait for them. To make {kept:,} once "
        f"and train on those, which takes {clock(seconds * kept / workers)} with {workers} workers:\n"
        f"  sbikit simulate {folder} --simulations {kept} --workers {workers}\n"
        f"  sbikit run --config {folder / 'run.yaml'} --out {folder} --redo"
    )
