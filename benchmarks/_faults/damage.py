"""One file of a run folder damaged, then the natural command: a refusal, or the very same numbers."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

from _faults.commands import command
from _faults.kills import pristine, unfinished
from _faults.runs import KINDS, losses, numbers

_SHARES = (0.3, 0.5, 0.7, 0.9)
_COMMANDS = ("run", "report", "validate", "sample")


def _flip(path: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(bytes(content))


def _cut(path: Path, draw: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: draw.randrange(max(1, len(content)))])


def _empty(path: Path, draw: random.Random) -> None:
    del draw
    path.write_bytes(b"")


def _garbage(path: Path, draw: random.Random) -> None:
    path.write_bytes(draw.randbytes(draw.randrange(1, 4096)))


def _folder(path: Path, draw: random.Random) -> None:
    del draw
    path.unlink()
    path.mkdir()


def _link(path: Path, draw: random.Random) -> None:
    del draw
    other = path.parent / f"{path.name}.elsewhere"
    path.rename(other)
    path.symlink_to(other)


def _gone(path: Path, draw: random.Random) -> None:
    del draw
    path.unlink()


def _swapped(path: Path, draw: random.Random) -> None:
    """The content of another file of the folder, one of its own kind where there is one."""
    alike = [f for f in path.parent.iterdir() if f.is_file() and f.suffix == path.suffix and f != path]
    if alike:
        path.write_bytes(draw.choice(sorted(alike)).read_bytes())
    else:
        _garbage(path, draw)


DAMAGES = {
    "flipped": _flip,
    "cut": _cut,
    "emptied": _empty,
    "garbage": _garbage,
    "folder": _folder,
    "link": _link,
    "gone": _gone,
    "swapped": _swapped,
}


def damaged(folder: Path, number: int) -> dict[str, object]:
    """One file of one folder damaged in one way."""
    draw = random.Random(f"damage {number}")
    kind = KINDS[number % len(KINDS)]
    right = pristine(folder, kind) / "run"
    finished = draw.random() < 0.5
    source = right if finished else unfinished(folder, kind, draw.choice(_SHARES)) / "run"
    place = folder / "damage" / str(number)
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    if not source.exists():
        return {"kind": kind.name, "well": True, "status": None, "said": "killed before there was a folder"}
    run = place / "run"
    shutil.copytree(source, run)
    file = draw.choice(sorted(f for f in run.rglob("*") if f.is_file()))
    how = draw.choice(list(DAMAGES))
    name = str(file.relative_to(run))
    DAMAGES[how](file, draw)
    what = draw.choice(_COMMANDS) if finished else "run"
    words = [*kind.words, "--out", "run"] if what == "run" else [what, "run"]
    outcome = command(words, place)
    if what == "sample" and name == "metrics.json" and outcome.status == 0:
        outcome = command(["report", "run"], place)  # which shows it; `sample` reads no metrics
    verdict, why = _judged(run, right, outcome.status, refused=outcome.refused(), broke=outcome.broke())
    if verdict:
        shutil.rmtree(place)
    told = {"status": outcome.status, "said": "" if verdict else f"{why}: {outcome.last()}"}
    about = {"kind": kind.name, "finished": finished, "file": name, "damage": how, "command": what}
    return {**about, "well": verdict, **told}


def _judged(run: Path, right: Path, status: int | None, *, refused: bool, broke: bool) -> tuple[bool, str]:
    """Whether it was answered well, and if not why."""
    if broke:
        return False, "a traceback, or it hung"
    if refused:
        return True, ""
    if status != 0:
        return False, f"status {status}"
    if not (os.path.lexists(run / "posterior.nc") and os.path.lexists(run / "metrics.json")):
        return True, ""
    if numbers(run) != numbers(right):
        return False, "other numbers"
    expected = losses(right)
    wrong = [step for step, record in losses(run).items() if expected.get(step) != record]
    return not wrong, f"other losses at {wrong}"
