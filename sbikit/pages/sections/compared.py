"""One validator's comparison with the exact posterior: figures beside their floors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from sbikit.pages.figures.calibration import calibration_curves
from sbikit.pages.names import curve_title, metric_variable, title
from sbikit.pages.numbers import plural, plus_minus, rounded
from sbikit.pages.pictures import Picture, make_picture
from sbikit.pages.sections.floor_marks import FloorMark, floor_mark, reach
from sbikit.problem.spec import Spec
from sbikit.roles.validator import Curve, Metric, Report

MOST_OPEN_ROWS = 60  # about four screens; of more, what needs no attention is folded


@dataclass(frozen=True)
class ComparedRow:
    """One figure of the table."""

    name: str
    text: str
    floor: str
    ideal: str
    verdict: str
    meaning: str
    mark: FloorMark | None


@dataclass(frozen=True)
class ComparedGroup:
    """All figures of one variable."""

    variable: Markup
    rows: list[ComparedRow]
    score: str
    failed: bool
    folded: bool


@dataclass(frozen=True)
class ComparisonSection:
    """What one validator found."""

    name: str
    sentence: str
    state: str
    groups: list[ComparedGroup]
    pictures: list[Picture]


def comparison(report: Report, spec: Spec) -> ComparisonSection:
    """A validator's figures by variable, each beside its floor, and its curves."""
    judged = [metric for metric in report.metrics if metric.verdict != "none"]
    failed = sum(metric.verdict == "fail" for metric in judged)
    sentence = f"{len(judged) - failed} of {plural(len(judged), 'figure')} are within tolerance."
    return ComparisonSection(
        name=title(report.validator),
        sentence=sentence if judged else "No figure was judged.",
        state=("fail" if failed else "pass") if judged else "none",
        groups=_groups(report.metrics, spec),
        pictures=[_curves(report, name, spec) for name in dict.fromkeys(c.name for c in report.curves)],
    )


def _groups(metrics: Sequence[Metric], spec: Spec) -> list[ComparedGroup]:
    """The figures by variable; where there are many, the variables of which none fails are folded."""
    ends = {
        name: max(reach(metric) for metric in metrics if metric.name == name)
        for name in dict.fromkeys(metric.name for metric in metrics)
    }
    groups = []
    for variable in dict.fromkeys(metric.variable for metric in metrics):
        own = [metric for metric in metrics if metric.variable == variable]
        verdicts = [metric.verdict for metric in own if metric.verdict != "none"]
        failed = verdicts.count("fail")
        score = f"{len(verdicts) - failed} of {len(verdicts)} within tolerance" if verdicts else "not judged"
        groups.append(
            ComparedGroup(
                variable=metric_variable(variable, spec),
                rows=[_row(metric, ends[metric.name]) for metric in own],
                score=score,
                failed=failed > 0,
                folded=len(metrics) > MOST_OPEN_ROWS and not failed,
            )
        )
    return groups


def _row(metric: Metric, reach: float) -> ComparedRow:
    floored = metric.floor is not None and metric.floor_error is not None
    return ComparedRow(
        name=title(metric.name),
        text=plus_minus(metric.value, metric.error),
        floor=plus_minus(metric.floor or 0.0, metric.floor_error or 0.0) if floored else "",
        ideal="" if metric.ideal is None else rounded(metric.ideal, metric.error),
        verdict=metric.verdict,
        meaning=metric.meaning,
        mark=floor_mark(metric, reach) if floored else None,
    )


def _curves(report: Report, name: str, spec: Spec) -> Picture:
    curves: list[Curve] = [curve for curve in report.curves if curve.name == name]
    titles = [curve_title(curve, spec) for curve in curves]
    return make_picture(
        f"{report.validator}_{name}",
        f"{title(name).capitalize()} against the exact posterior",
        f"{title(name).capitalize()} with its error band (blue), and what exact draws would give (dashed).",
        "a dashed line that stays inside the band.",
        lambda layout: calibration_curves(curves, titles, layout),
    )
