"""The verdict on top of the page, and a validator's figures as rows of a table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup

from sbikit.problem.spec import Spec
from sbikit.report.names import metric_variable, title
from sbikit.report.numbers import plural, plus_minus, rounded
from sbikit.report.recovery import Estimate
from sbikit.roles.validator import Metric, Report

DRAWN = 5.0  # standard errors either side of the ideal that fit into the drawing of a metric


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
    )


@dataclass(frozen=True)
class VerdictSummary:
    """The answer on top of the page; `state` is pass, fail or none."""

    state: str
    headline: str
    failed: list[MetricRow]
    judged: int


def verdict(reports: Iterable[Report], spec: Spec) -> VerdictSummary:
    """How many checks pass, and which do not."""
    checks = [metric for report in reports for metric in report.metrics if metric.verdict != "none"]
    failed = [metric_row(metric, spec) for metric in checks if metric.verdict == "fail"]
    if not checks:
        return VerdictSummary("none", "Not judged: no calibration check was made", [], 0)
    score = f"{len(checks) - len(failed)} of {plural(len(checks), 'check')} pass"
    word = "Not calibrated" if failed else "Calibrated"
    return VerdictSummary("fail" if failed else "pass", f"{word}: {score}", failed, len(checks))
