"""Calibration: what each validator found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sbikit.pages.figures.calibration import calibration_curves
from sbikit.pages.names import curve_title, title
from sbikit.pages.pictures import Picture, make_picture
from sbikit.pages.sections.verdict import MetricRow, metric_row
from sbikit.problem.spec import Spec
from sbikit.roles.validator import Metric, Report

_MOST_ROWS = 16  # of a table that is read at a glance


@dataclass(frozen=True)
class ValidatorFindings:
    """One validator's checks, its figures without a verdict that no validator before it gave, its curves.

    Of many checks those that fail are shown, and all are folded away.
    """

    name: str
    rows: list[MetricRow]
    unjudged: list[MetricRow]
    curves: Picture | None

    @property
    def folded(self) -> bool:
        """Whether there are too many checks to show them all."""
        return len(self.rows) > _MOST_ROWS

    @property
    def failed(self) -> list[MetricRow]:
        """The checks that fail."""
        return [row for row in self.rows if row.verdict == "fail"]


def calibration(reports: Iterable[Report], spec: Spec) -> list[ValidatorFindings]:
    """What each validator found; a figure that several give alike is told once."""
    told: set[Metric] = set()
    findings = []
    for report in reports:
        fresh = [metric for metric in report.metrics if metric not in told]
        told.update(fresh)
        findings.append(
            ValidatorFindings(
                title(report.validator),
                [metric_row(metric, spec) for metric in report.metrics if metric.verdict != "none"],
                [metric_row(metric, spec) for metric in fresh if metric.verdict == "none"],
                _curves_picture(report, spec) if report.curves else None,
            )
        )
    return findings


_AROUND_MEASURED = (
    "Curves of {} with their error bands (blue) and the ideal (dashed).",
    "a dashed line that stays inside the band. A curve that crosses it in the middle means draws "
    "that are too wide or too narrow; one that stays on one side means a bias.",
)
_AROUND_IDEAL = (
    "Curves of {} (blue) with the ideal (dashed) and the band that holds those of an exact posterior (grey).",
    "a line that leaves the band. Of ranks, one above it means draws that lie too high, one below it draws "
    "that lie too low; one that rises first and falls then means draws that are too narrow, one that falls "
    "first draws that are too wide.",
)


def _curves_picture(report: Report, spec: Spec) -> Picture:
    titles = [curve_title(curve, spec) for curve in report.curves]
    ideal = all(curve.band == "ideal" for curve in report.curves)
    caption, look = _AROUND_IDEAL if ideal else _AROUND_MEASURED
    return make_picture(
        f"calibration_{report.validator}",
        f"Calibration curves of {report.validator}",
        caption.format(title(report.validator)),
        look,
        lambda layout: calibration_curves(report.curves, titles, layout),
    )
