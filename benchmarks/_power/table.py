"""The share of repeats that raised an alarm, for each case, each validator and the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from _record import record
from scipy.stats import binomtest

from _power.repeat import VALIDATORS
from _power.spoilings import EXACT, SPOILINGS
from sbikit_calibration.alarms import ALPHA

COLUMNS = ("page", *VALIDATORS)
ALLOWED = {"page": sum(ALPHA.values()), **ALPHA}
"""False alarms that are allowed."""
_UNLIKELY = 0.01  # chance of so many false alarms, below which they are more than allowed


def shares(lines: Sequence[dict[str, Any]]) -> Iterator[tuple[str, str, int, int]]:
    """Case, validator (or page), repeats with an alarm, repeats."""
    for case in SPOILINGS:
        alarms = [line["alarms"][case] for line in lines]
        for column in COLUMNS:
            yield case, column, sum(bool(a) if column == "page" else column in a for a in alarms), len(alarms)


def figures(lines: Sequence[dict[str, Any]]) -> None:
    """Print every share with its error: the sd of the posterior of a binomial chance, which is never 0."""
    for case, column, count, of in shares(lines):
        error = ((count + 1) * (of - count + 1) / (of + 3)) ** 0.5 / (of + 2)
        goal = ALLOWED[column] if case == EXACT else None
        ok = None if goal is None else bool(binomtest(count, of, goal, "greater").pvalue > _UNLIKELY)
        record(
            f"share of {of} repeats with an alarm of {column}: {case}",
            count / of,
            error,
            goal=None if goal is None else f"at most {goal:g}",
            ok=ok,
        )


def markdown(lines: Sequence[dict[str, Any]]) -> str:
    """The table, in per cent with the binomial standard error, and what most often raised the alarm."""
    cells = {(case, column): _cell(count, of) for case, column, count, of in shares(lines)}
    head = ["spoiled draws", *COLUMNS, "what saw it most often"]
    rows = [head, ["---"] * len(head)]
    rows += [[case, *(cells[case, c] for c in COLUMNS), _loudest(lines, case)] for case in SPOILINGS]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _cell(count: int, of: int) -> str:
    """`97.5 ± 1.1`; of none or all the limit at 68 % confidence (Clopper and Pearson)."""
    share = count / of
    if 0 < count < of:
        return f"{100 * share:.1f} ± {100 * (share * (1 - share) / of) ** 0.5:.1f}"
    interval = binomtest(count, of).proportion_ci(0.6827)
    return f"below {100 * interval.high:.1f}" if count == 0 else f"above {100 * interval.low:.1f}"


def _loudest(lines: Sequence[dict[str, Any]], case: str) -> str:
    """The figure with the most alarms, and its share."""
    counted = Counter(name for line in lines for names in line["alarms"][case].values() for name in names)
    if not counted:
        return ""
    name, count = counted.most_common(1)[0]
    return f"{name.replace('_', ' ')} ({100 * count / len(lines):.0f} %)"
