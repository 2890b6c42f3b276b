"""How much disk the draws of a run take, and the refusal of a disk that has not got it, before any work."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sbikit.problem.memory import check_disk
from sbikit.problem.variables import count_numbers
from sbikit.runs.drawing import bytes_a_draw
from sbikit.runs.job import Run

_WORTH_SAYING = 1e9  # bytes


@dataclass(frozen=True)
class Room:
    """Bytes that a stage's files take, and those of its parts, which are there until it is done."""

    kept: int
    parts: int


def needed(run: Run, stage: str) -> Room:
    """What a stage writes at most; draws hardly get smaller when they are packed."""
    sampling = run.config.sampling
    if stage == "reference" and run.reference is not None:
        exact = bytes_a_draw(run.reference.spec) * sampling.reference_draws * sampling.reference_observations
        return Room(exact, exact)
    if stage != "sample":
        return Room(0, 0)
    each = bytes_a_draw(run.spec)
    draws = each * (sampling.draws * sampling.observations + sampling.shown_draws)
    if run.reference is not None:
        draws += each * (sampling.reference_draws // 2) * sampling.reference_observations
    seen = 4 * count_numbers(run.simulator.spec.observables)
    return Room(draws + (each + seen) * sampling.observations, draws)


def check_room(run: Run, stages: Iterable[str]) -> None:
    """Refuse a disk that cannot hold what these stages write; say how much it is where it is much.

    Raises:
        OptionError: there is too little room.
    """
    parts = run.folder.parts
    there = sum(file.stat().st_size for file in parts.rglob("*") if file.is_file()) if parts.is_dir() else 0
    total, most = 0, 0
    for stage in stages:
        room = needed(run, stage)
        most = max(most, total + room.kept + room.parts)
        total += room.kept
    most = max(0, most - there)
    free = check_disk(
        most,
        "the draws of this run while they are written",
        run.folder.path,
        where="sampling",
        fix="ask for fewer draws or observations, or choose an --out with more room",
    )
    if most >= _WORTH_SAYING:
        run.monitor.say(
            f"The draws need {most / 1e9:.3g} GB of disk while they are written, and {total / 1e9:.3g} GB "
            f"afterwards; {free / 1e9:.3g} GB are free."
        )
