"""How close to the exact posterior: figures beside their floors, on the report's page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from sbikit.problem.spec import Spec
from sbikit.report import figures
from sbikit.report.parts import (
    Picture,
    RunFiles,
    curve_title,
    make_picture,
    metric_variable,
    plural,
    plus_minus,
    rounded,
    title,
)
from sbikit.report.trust import reasons
from sbikit.roles.trust import spans, trusted
from sbikit.roles.validator import Curve, Metric, Report

MOST_OPEN_ROWS = 60
_HALF = 52.0  # half width of a mark in its own units


@dataclass(frozen=True)
class Mark:
    """A figure and its floor on the axis that all figures of its name share.

    Args:
        has_ideal: whether 0 is the ideal; otherwise it is the floor.
        floor: ends of the floor's bar, one standard error either side.
        value: the figure.
        whisker: ends of its error bar.
    """

    has_ideal: bool
    floor: tuple[float, float]
    value: float
    whisker: tuple[float, float]


@dataclass(frozen=True)
class ComparedRow:
    """One figure of the table."""

    name: str
    text: str
    floor: str
    ideal: str
    verdict: str
    meaning: str
    mark: Mark | None


@dataclass(frozen=True)
class ComparedGroup:
    """All figures of one variable."""

    variable: Markup
    rows: list[ComparedRow]
    score: str
    failed: bool
    folded: bool


@dataclass(frozen=True)
class Comparison:
    """What one validator found."""

    name: str
    sentence: str
    state: str
    groups: list[ComparedGroup]
    pictures: list[Picture]


@dataclass(frozen=True)
class Closeness:
    """The reference and what was compared with it.

    Args:
        reference: its name.
        headline: one line for the top of the page.
        state: pass, fail or none.
        sampled: on what it was run, in a sentence.
        left_out: what was not compared and why; "" where all was.
        shown: why the shown observation has no reference; "" where it has one.
        comparisons: one a validator.
    """

    reference: str
    headline: str
    state: str
    sampled: str
    left_out: str
    shown: str
    comparisons: list[Comparison]


def closeness(files: RunFiles) -> Closeness | None:
    """Everything about the reference; None where the run has none."""
    if not files.run.get("reference"):
        return None
    name, estimator = (str(files.run[part]["name"]) for part in ("reference", "estimator"))
    records = list(files.provenance.get("reference") or ())
    reports = [report for report in files.reports if report.validator in files.compared]
    headline, state = _headline(name, records, reports)
    return Closeness(
        reference=name,
        headline=headline,
        state=state,
        sampled=_sampled(name, estimator, records),
        left_out=_left_out(records),
        shown=_not_shown(files, name, records),
        comparisons=[_comparison(report, files.posterior.spec) for report in reports],
    )


# --- sentences -------------------------------------------------------------------------------


def _headline(name: str, records: Sequence[Mapping[str, Any]], reports: Iterable[Report]) -> tuple[str, str]:
    verdicts = [metric.verdict for report in reports for metric in report.metrics]
    judged = [verdict for verdict in verdicts if verdict != "none"]
    passed = judged.count("pass")
    if judged:
        words = f"{passed} of {plural(len(judged), 'figure')} within tolerance"
        return words, "pass" if passed == len(judged) else "fail"
    if not verdicts and records:
        return f"not judged, {name} is to be trusted for {_share(records)}", "none"
    return "not judged", "none"


def _share(records: Sequence[Mapping[str, Any]]) -> str:
    return f"{len(trusted(records))} of {plural(len(records), 'observation')}"


def _sampled(name: str, estimator: str, records: Sequence[Mapping[str, Any]]) -> str:
    if not records:
        return f"{name} drew the exact posterior of held-out observations."
    text = f"{name} drew the exact posterior of {plural(len(records), 'held-out observation')}"
    good = len(trusted(records))
    if good == len(records):
        return f"{text}, and its draws can be trusted for all of them. {_compared(estimator)}"
    return f"{text}. Its draws can be trusted for {good} of them. {_compared(estimator) if good > 1 else ''}"


def _compared(estimator: str) -> str:
    return f"With these, the draws of {estimator} are compared."


def _left_out(records: Sequence[Mapping[str, Any]]) -> str:
    doubtful = [b for b, one in enumerate(records) if not one["trustworthy"]]
    if not doubtful:
        return ""
    which = f"{'Observation' if len(doubtful) == 1 else 'Observations'} {spans(doubtful)}"
    verb = "is" if len(doubtful) == 1 else "are"
    why = reasons([records[b] for b in doubtful])
    reason = f" ({why})" if why else ""
    return f"{which} {verb} left out, because the draws there cannot be called exact{reason}."


def _not_shown(files: RunFiles, name: str, records: Sequence[Mapping[str, Any]]) -> str:
    if files.posterior.reference is not None:
        return ""
    why = reasons(records[:1]) if records and not records[0]["trustworthy"] else ""
    reason = f" ({why})" if why else ""
    return (
        f"The sampler {name} was run on the same observation, but its draws there cannot be called exact"
        f"{reason}, so they are not shown."
    )


# --- one validator ---------------------------------------------------------------------------


def _comparison(report: Report, spec: Spec) -> Comparison:
    judged = [metric for metric in report.metrics if metric.verdict != "none"]
    failed = sum(metric.verdict == "fail" for metric in judged)
    sentence = f"{len(judged) - failed} of {plural(len(judged), 'figure')} are within tolerance."
    return Comparison(
        name=title(report.validator),
        sentence=sentence if judged else "No figure was judged.",
        state=("fail" if failed else "pass") if judged else "none",
        groups=_groups(report.metrics, spec),
        pictures=[_curves(report, name, spec) for name in dict.fromkeys(c.name for c in report.curves)],
    )


def _groups(metrics: Sequence[Metric], spec: Spec) -> list[ComparedGroup]:
    """The figures by variable; where there are many, the variables of which none fails are folded."""
    reach = {
        name: max(_reach(metric) for metric in metrics if metric.name == name)
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
                rows=[_row(metric, reach[metric.name]) for metric in own],
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
        mark=_mark(metric, reach) if floored else None,
    )


# --- marks -----------------------------------------------------------------------------------


def _centre(metric: Metric) -> float:
    """The ideal, or the floor where there is none."""
    return (metric.floor or 0.0) if metric.ideal is None else metric.ideal


def _ends(metric: Metric) -> tuple[float, float, float, float]:
    """Of the floor and of the figure, one standard error either side."""
    floor, error = metric.floor or 0.0, metric.floor_error or 0.0
    return floor - error, floor + error, metric.value - metric.error, metric.value + metric.error


def _reach(metric: Metric) -> float:
    return max(abs(end - _centre(metric)) for end in _ends(metric))


def _mark(metric: Metric, reach: float) -> Mark:
    """Positions between -52 and 52."""
    scale = _HALF / (reach or 1.0)
    floor_low, floor_high, low, high = (scale * (end - _centre(metric)) for end in _ends(metric))
    return Mark(
        has_ideal=metric.ideal is not None,
        floor=(floor_low, floor_high),
        value=scale * (metric.value - _centre(metric)),
        whisker=(low, high),
    )


def _curves(report: Report, name: str, spec: Spec) -> Picture:
    curves: list[Curve] = [curve for curve in report.curves if curve.name == name]
    titles = [curve_title(curve, spec) for curve in curves]
    return make_picture(
        f"{report.validator}_{name}",
        f"{title(name).capitalize()} against the exact posterior",
        f"{title(name).capitalize()} with its error band (blue), and what exact draws would give (dashed).",
        "a dashed line that stays inside the band.",
        lambda layout: figures.calibration_curves(curves, titles, layout),
    )
