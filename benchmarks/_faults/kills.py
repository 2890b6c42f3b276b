"""kill -9 at random moments; the same command then goes on, and must end at the same numbers."""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path

from _faults.commands import command
from _faults.runs import KINDS, Kind, losses, numbers


def pristine(folder: Path, kind: Kind) -> Path:
    """The run that nothing happened to; made where it is not there, with how long it took beside it."""
    place = folder / "pristine" / kind.name
    if not (place / "seconds").exists():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        began = time.monotonic()
        outcome = command([*kind.words, "--out", "run"], place)
        if outcome.status != 0:
            raise RuntimeError(f"the run {kind.name} itself fails: {outcome.last()}")
        (place / "seconds").write_text(f"{time.monotonic() - began}")
    return place


def unfinished(folder: Path, kind: Kind, share: float) -> Path:
    """A run that was killed after this share of its time; made where it is not there."""
    place = folder / "unfinished" / f"{kind.name}-{share:.2f}"
    if not place.exists():
        work = place.with_name(f"{place.name}.work")
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        seconds = float((pristine(folder, kind) / "seconds").read_text())
        command([*kind.words, "--out", "run"], work, kill_after=share * seconds)
        work.rename(place)
    return place


def killed(folder: Path, number: int) -> dict[str, object]:
    """One run, killed one to three times and then left alone."""
    draw = random.Random(f"kill {number}")
    kind = KINDS[number % len(KINDS)]
    expected = pristine(folder, kind)
    seconds = float((expected / "seconds").read_text())
    place = folder / "kills" / str(number)
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    words = [*kind.words, "--out", "run"]
    moments = [round(draw.uniform(0.0, 1.05 * seconds / (1 + i)), 3) for i in range(draw.randint(1, 3))]
    for moment in moments:
        command(words, place, kill_after=moment)
    outcome = command(words, place)
    run, right = place / "run", expected / "run"
    same = outcome.status == 0 and numbers(run) == numbers(right) and losses(run) == losses(right)
    if same:
        shutil.rmtree(place)
    told = {"status": outcome.status, "said": "" if same else outcome.last()}
    return {"kind": kind.name, "moments": moments, "well": same, **told}
