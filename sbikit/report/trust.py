"""What the reference sampler says of its own draws, on the report's page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sbikit.report.parts import number
from sbikit.roles.trust import in_words


@dataclass(frozen=True)
class Worst:
    """One figure of the reference's convergence: the worst where it is to be trusted, and of all."""

    name: str
    trusted: str
    everywhere: str
    ideal: str


_FIGURES: dict[str, tuple[str, Callable[[list[float]], float], str]] = {
    "r_hat": ("largest R-hat", max, "1; below 1.01 is usual"),
    "ess": ("smallest effective sample size", min, "400 or more"),
    "ess_bulk": ("smallest bulk ESS", min, "400 or more"),
    "ess_tail": ("smallest tail ESS", min, "400 or more"),
    "e_bfmi": ("smallest E-BFMI", min, "about 1"),
    "divergences": ("most divergent transitions", max, "0"),
}


def convergence(records: Sequence[Mapping[str, Any]]) -> list[Worst]:
    """The figures that are known of a Markov chain, the worst over observations; [] if none is given."""
    good = [one for one in records if one["trustworthy"]]
    rows = [
        Worst(name, _worst(good, key), _worst(records, key), ideal)
        for key, (name, _, ideal) in _FIGURES.items()
        if _worst(records, key)
    ]
    return [Worst("observations", str(len(good)), str(len(records)), "all"), *rows] if rows else []


def reasons(records: Sequence[Mapping[str, Any]]) -> str:
    """Why records are not to be trusted: their worst figures, or whatever they say."""
    words = [f"{name} {_worst(records, key)}" for key, (name, *_) in _FIGURES.items() if _worst(records, key)]
    return ", ".join(words) or in_words(records)


def _worst(records: Sequence[Mapping[str, Any]], key: str) -> str:
    """The worst number of all records; what is not finite is worse than any."""
    values = [one[key] for one in records if one.get(key) is not None]
    leaves = [leaf for value in values for leaf in (value if isinstance(value, list) else [value])]
    if None in leaves:
        return "not finite"
    worst = _FIGURES[key][1]
    return number(worst([float(leaf) for leaf in leaves])) if leaves else ""
