"""kill -9 at random moments of `simulate` and of whole runs; the same command then goes on."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections import Counter
from pathlib import Path

import numpy as np
from _faults.commands import command
from _faults.runs import losses, numbers

from sbikit.problem.seeds import draw_seeds

DRAWS, WORKERS = 600, 2
_SETTINGS = (
    "sampling.observations=24",
    "sampling.draws=12",
    "sampling.shown_draws=60",
    "estimator.steps=16",
    "estimator.transforms=1",
    "estimator.hidden=8",
    "estimator.bins=4",
    "estimator.context=4",
)


def words(trace: Path, *, whole: bool) -> list[str]:
    """What follows `sbikit` for a run that keeps its simulations, or for its folder alone."""
    chosen = ["run" if whole else "init", *(["--out", "run"] if whole else ["run"])]
    chosen += ["--sim", "keeping-traced", "--estimator", "npe", "--validator", "mira", "--device", "cpu"]
    chosen += ["--simulations", str(DRAWS), "--workers", str(WORKERS)]
    settings = (*_SETTINGS, f"simulator.trace={trace}")
    return chosen + [word for setting in settings for word in ("--set", setting)]


def pristine(folder: Path, *, whole: bool) -> Path:
    """The run, or the store, that nothing happened to; made where it is not there."""
    place = folder / f"pristine-{'run' if whole else 'store'}"
    if not (place / "seconds").exists():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        seconds = _finished(place, whole=whole)
        (place / "seconds").write_text(f"{seconds}")
    return place


def _finished(place: Path, *, whole: bool) -> float:
    began = time.monotonic()
    for given in _commands(place, whole=whole):
        outcome = command(given, place)
        if outcome.status != 0:
            raise RuntimeError(f"it fails by itself: {outcome.last()}")
    return time.monotonic() - began


def _commands(place: Path, *, whole: bool) -> list[list[str]]:
    if whole:
        return [words(place / "trace", whole=True)]
    return [words(place / "trace", whole=False), ["simulate", "run"]]


def killed(folder: Path, number: int) -> dict[str, object]:
    """One store (even numbers) or run (odd ones), killed one to three times and then left alone."""
    whole, draw = bool(number % 2), random.Random(f"kill {number}")
    expected = pristine(folder, whole=whole)
    seconds = float((expected / "seconds").read_text())
    place = folder / "kills" / str(number)
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    *before, last = _commands(place, whole=whole)
    for given in before:
        command(given, place)
    moments = [round(draw.uniform(0.0, 1.05 * seconds / (1 + i)), 3) for i in range(draw.randint(1, 3))]
    kept: set[int] = set()
    twice = 0
    for moment in [*moments, None]:
        drawn = _trace(place)
        outcome = command(last, place, kill_after=moment)
        _wait_for_workers()
        twice += sum(seed in kept for seed in (_trace(place) - drawn))
        kept = _seeds_of_good(place / "run" / "simulations.zarr")
    said = "" if outcome.status == 0 else outcome.last()
    same = outcome.status == 0 and _same(place / "run", expected / "run", whole=whole)
    if same and not twice:
        shutil.rmtree(place)
    told = {"whole": whole, "moments": moments, "twice": twice, "status": outcome.status, "said": said}
    return {"well": same and not twice, **told}


def _same(run: Path, expected: Path, *, whole: bool) -> bool:
    """Whether the store, and what was made from it, is the same to the bit."""
    records = [json.loads((one / "simulations.json").read_text()) for one in (run, expected)]
    if records[0]["content"] != records[1]["content"] or records[0]["good"] != DRAWS:
        return False
    if not whole:
        return True
    return numbers(run) == numbers(expected) and losses(run) == losses(expected)


def _trace(place: Path) -> Counter[int]:
    """Seeds of all draws that were made so far, and how often."""
    file = place / "trace"
    return Counter(int(line) for line in file.read_text().split()) if file.exists() else Counter()


def _seeds_of_good(store: Path) -> set[int]:
    """Seeds of the training draws that count as there."""
    import zarr

    if not (store / "zarr.json").exists():
        return set()
    status = np.asarray(zarr.open_group(store, mode="r")["status"])  # type: ignore[arg-type]
    seeds = draw_seeds(0, "training/simulator", 0, len(status))
    return {int(seed) for seed in seeds[status == 1]}


def _wait_for_workers() -> None:
    """Until no process is left that a killed command had started; it must not be long."""
    until = time.monotonic() + 10.0
    while time.monotonic() < until and _orphans():
        time.sleep(0.05)
    if left := _orphans():
        raise RuntimeError(f"processes are left behind: {left}")


def _orphans() -> list[int]:
    """Workers whose parent is gone."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            command_line = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if fields[1] == "1" and b"sbikit" in command_line and str(os.getppid()) != entry.name:
            found.append(int(entry.name))
    return found
