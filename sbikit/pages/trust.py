"""What the reference sampler says of its own draws, on the report's page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sbikit.pages.numbers import number
from sbikit.roles.trust import Reading, Trust, in_words, trusted, worst
from sbikit.roles.trust import reasons as complaints_of

_MOST_COMPLAINTS = 4  # that are listed; of more, the readings are summed up


@dataclass(frozen=True)
class WorstReading:
    """One reading at its worst: where the reference is to be trusted, and of all observations."""

    name: str
    trusted: str
    everywhere: str
    wanted: str


@dataclass(frozen=True)
class WorstReadings:
    """All readings, and how many observations are to be trusted, of how many."""

    trusted: int
    observations: int
    rows: list[WorstReading]


def worst_readings(trust: Sequence[Trust]) -> WorstReadings | None:
    """The readings, the worst over observations; None if the sampler gives none."""
    good = trusted(trust)
    known = {reading.name: _text(reading) for reading in worst(trust[b] for b in good)}
    rows = [
        WorstReading(reading.name, known.get(reading.name, ""), _text(reading), reading.wanted)
        for reading in worst(trust)
    ]
    return WorstReadings(len(good), len(trust), rows) if rows else None


def _text(reading: Reading) -> str:
    return "not finite" if reading.value is None else number(reading.value)


def reasons(trust: Sequence[Trust]) -> str:
    """Why draws are not to be trusted: the complaints, or the readings where those are too many to list."""
    listed, readings = complaints_of(trust), in_words([_judged(one) for one in trust])
    many = len({text for one in trust for text in one.complaints}) > _MOST_COMPLAINTS
    return readings or listed if many else listed or readings


def _judged(trust: Trust) -> Trust:
    """The same with those readings alone of which something is wanted."""
    return replace(trust, readings=tuple(one for one in trust.readings if one.wanted))
