"""The verdict on top of the page, and a validator's figures as rows of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from sbikit.pages.names import metric_variable, title
from sbikit.pages.numbers import number, plural, plus_minus, rounded
from sbikit.pages.recovery import Estimate
from sbikit.pages.sections.learned import unlearned
from sbikit.problem.spec import Spec
from sbikit.roles.validator import Metric, Report

DRAWN = 5.0  # standard errors either side of the ideal that fit into the drawing of a metric
_LISTED = 6  # failed checks that the top of the page lists: half a screen


@dataclass(frozen=True)
class MetricRow:
    """One row of the calibration table."""

    name: str
    variable: Markup
    text: str
    ideal: str
    verdict: str
    meaning: str
    offset: float | None
    p: str

    @property
    def marker(self) -> float:
        """Offset clipped to what the page draws."""
        return max(-DRAWN, min(DRAWN, self.offset or 0.0))


def metric_row(metric: Metric, spec: Spec) -> MetricRow:
    """A metric as the table shows it."""
    return MetricRow(
        name=title(metric.name).replace(" %", "\u00a0%"),
        variable=metric_variable(metric.variable, spec),
        text=plus_minus(metric.value, metric.error),
        ideal="" if metric.ideal is None else rounded(metric.ideal, metric.error),
        verdict=metric.verdict,
        meaning=metric.meaning,
        offset=Estimate(metric.value, metric.error, metric.ideal).offset,
        p=_probability(metric.p),
    )


def _probability(p: float | None) -> str:
    if p is None:
        return ""
    return "p\u00a0<\u00a010⁻⁶" if p < 1e-6 else f"p\u00a0=\u00a0{number(p, 2)}"


@dataclass(frozen=True)
class VerdictSummary:
    """The answer on top of the page.

    Args:
        state: pass, fail or none.
        headline: one line.
        failed: all of few failed checks; of many, for each variable one that is farthest off.
        unlisted: how many more failed.
        judged: checks in all.
        sees: what the checks would have seen in nine of ten cases.
        unlearned: of what next to nothing was learned, each with its contraction.
    """

    state: str
    headline: str
    failed: list[MetricRow]
    unlisted: int
    judged: int
    sees: list[str]
    unlearned: list[Markup]


def verdict(reports: Sequence[Report], spec: Spec) -> VerdictSummary:
    """How many checks pass, which do not, what they would have seen, and of what nothing was learned.

    "Calibrated" is said only where it is known what the checks would have seen.
    """
    checks = [metric for report in reports for metric in report.metrics if metric.verdict != "none"]
    nothing = unlearned(reports, spec)
    if not checks:
        return VerdictSummary("none", "Not judged: no calibration check was made", [], 0, 0, [], nothing)
    wrong = [metric for metric in checks if metric.verdict == "fail"]
    worst = wrong if len(wrong) <= _LISTED else _worst(reports)
    sees = list(dict.fromkeys(phrase for report in reports for phrase in report.sees))
    score = f"{len(checks) - len(wrong)} of {plural(len(checks), 'check')} pass"
    word = "Not calibrated" if wrong else "Calibrated" if sees else "No fault was found"
    return VerdictSummary(
        state="fail" if wrong else "pass" if sees else "none",
        headline=f"{word}: {score}",
        failed=[metric_row(metric, spec) for metric in worst],
        unlisted=len(wrong) - len(worst),
        judged=len(checks),
        sees=sees,
        unlearned=nothing,
    )


def _worst(reports: Sequence[Report]) -> list[Metric]:
    """For each variable the failed check that is farthest off, of the first validator that refuses it."""
    found: dict[str, Metric] = {}
    for report in reports:
        for metric in sorted((m for m in report.metrics if m.verdict == "fail"), key=_chance):
            found.setdefault(metric.variable, metric)
    return list(found.values())[:_LISTED]


def _chance(metric: Metric) -> tuple[float, float]:
    """By the p-value, and where those are too small to tell apart by the distance in standard errors."""
    offset = Estimate(metric.value, metric.error, metric.ideal).offset or 0.0
    return 0.0 if metric.p is None else metric.p, -abs(offset)
