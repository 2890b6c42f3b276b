"""What a sampler says of its own draws for one observation, as values and in words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Reading:
    """One figure that trust rests on, or that is good to know.

    Args:
        name: what was measured, in words: "R-hat".
        value: the figure, the worst one where there are several; None where it is not finite.
        limit: the worst value that is good; None where nothing is asked of it.
        worse: which of two values is the worse one.
    """

    name: str
    value: float | None
    limit: float | None = None
    worse: Literal["higher", "lower"] = "higher"

    def __post_init__(self) -> None:
        if self.value is not None:
            value = float(self.value)
            object.__setattr__(self, "value", value if math.isfinite(value) else None)

    @property
    def wanted(self) -> str:
        """What it should be, in words: "at most 1.01"; empty where nothing is asked of it."""
        if self.limit is None:
            return ""
        return f"{'at most' if self.worse == 'higher' else 'at least'} {self.limit:g}"

    @property
    def good(self) -> bool:
        """Whether it is what it should be."""
        if self.limit is None:
            return True
        if self.value is None:
            return False
        return self.value <= self.limit if self.worse == "higher" else self.value >= self.limit


@dataclass(frozen=True)
class Trust:
    """How far the draws for one observation can be trusted.

    Args:
        trustworthy: whether they may be called draws from the posterior that the sampler is meant for; a
            sampler that does not judge its draws is trusted.
        readings: the figures that this rests on, and others.
        complaints: why they are not trustworthy, one sentence each; empty where they are.
    """

    trustworthy: bool = True
    readings: tuple[Reading, ...] = ()
    complaints: tuple[str, ...] = ()

    def value(self, name: str) -> float:
        """The reading of this name; not a number where there is none or it is not finite."""
        found = next((one.value for one in self.readings if one.name == name), None)
        return math.nan if found is None else found

    def record(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return asdict(self)

    @staticmethod
    def from_record(record: Mapping[str, Any]) -> Trust:
        """What `record` gave.

        Raises:
            ValueError: it is something else.
        """
        try:
            readings = tuple(Reading(**one) for one in record["readings"])
            complaints = tuple(str(text) for text in record["complaints"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"no record of a sampler's trust: {error!r}") from None
        if not isinstance(record["trustworthy"], bool):
            raise ValueError("no record of a sampler's trust: `trustworthy` is neither true nor false")
        return Trust(record["trustworthy"], readings, complaints)


def trusted(trust: Sequence[Trust]) -> list[int]:
    """The observations whose draws can be trusted."""
    return [b for b, one in enumerate(trust) if one.trustworthy]


def doubted(trust: Sequence[Trust]) -> list[int]:
    """The others."""
    return [b for b, one in enumerate(trust) if not one.trustworthy]


def worst(trust: Iterable[Trust]) -> tuple[Reading, ...]:
    """Of each reading the worst over many observations; what is not finite is worse than any number."""
    found: dict[str, Reading] = {}
    for reading in (reading for one in trust for reading in one.readings):
        known = found.setdefault(reading.name, reading)
        sign = 1.0 if reading.worse == "higher" else -1.0
        if reading.value is None or (known.value is not None and sign * reading.value > sign * known.value):
            found[reading.name] = reading
    return tuple(found.values())


# --- in words -------------------------------------------------------------------------------


def spans(numbers: Sequence[int]) -> str:
    """Ascending numbers, neighbours together: "0-3, 7"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def in_words(trust: Sequence[Trust]) -> str:
    """The readings, each by its range over all observations, with what is wanted of it."""
    names = dict.fromkeys(reading.name for one in trust for reading in one.readings)
    wanted = {reading.name: reading.wanted for one in trust for reading in one.readings}
    told = (f"{name} {_range(trust, name)}" for name in names)
    asked = (f" (wanted {wanted[name]})" if wanted[name] else "" for name in names)
    return ", ".join(text + more for text, more in zip(told, asked, strict=True))


def _range(trust: Sequence[Trust], name: str) -> str:
    """Smallest to largest value of a reading, and how often it is not finite."""
    values = [reading.value for one in trust for reading in one.readings if reading.name == name]
    known = [value for value in values if value is not None]
    ends = dict.fromkeys(f"{end:.4g}" for end in (min(known), max(known))) if known else ()
    missing = len(values) - len(known)
    words = [" to ".join(ends)] if known else []
    return " and ".join([*words, f"{missing} not finite"] if missing else words)


def reasons(trust: Iterable[Trust]) -> str:
    """Every complaint once."""
    return "; ".join(dict.fromkeys(text.rstrip(".") for one in trust for text in one.complaints))


def doubts(trust: Sequence[Trust]) -> str:
    """For how many observations a sampler doubts its own draws, and why; empty where it does not."""
    bad = doubted(trust)
    if not bad:
        return ""
    which = f" for {len(bad)} of {len(trust)} observations ({spans(bad)})" if len(trust) > 1 else ""
    return f"the sampler doubts its own draws{which}: {reasons(trust[b] for b in bad)}"


def distrust(trust: Sequence[Trust]) -> list[str]:
    """A line for each complaint about draws for new data; of several observations it says which."""
    about: dict[str, list[int]] = {}
    for b, one in enumerate(trust):
        for complaint in one.complaints:
            about.setdefault(complaint, []).append(b)
    which = {text: f" (observation {spans(rows)})" if len(trust) > 1 else "" for text, rows in about.items()}
    return [f"DO NOT TRUST THESE DRAWS{which[text]}: {text}" for text in about]


def announcement(name: str, trust: Sequence[Trust]) -> list[str]:
    """At most two lines: for which observations the sampler `name` is no reference, and for which it is."""
    lines = []
    bad, good = doubted(trust), trusted(trust)
    for judgement, which, rows in (
        ("not to be called exact", f" ({spans(bad)})", bad),
        ("to be trusted", "", good),
    ):
        why = in_words([trust[b] for b in rows])
        count = f"{len(trust)} observation{'' if len(trust) == 1 else 's'}"
        head = f"{name}: {judgement} for {len(rows)} of {count}{which}"
        lines += [f"{head}: {why}" if why else head] if rows else []
    return lines
