"""The judgement on the report's page: verdict, calibration, and recovery of held-out truths."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from sbikit.problem.spec import Spec
from sbikit.problem.variables import Field, Vector
from sbikit.report import figures
from sbikit.report.parts import (
    Array,
    Picture,
    columns,
    curve_title,
    labels_html,
    make_picture,
    math_labels,
    metric_variable,
    plural,
    plus_minus,
    rounded,
    short_title,
    signed,
    title,
)
from sbikit.report.recovery import (
    FEWEST_DRAWS,
    FEWEST_OBSERVATIONS,
    Estimate,
    Recovery,
    error_by_width,
    recovery,
)
from sbikit.roles.validator import Metric, Report
from sbikit.storage.posterior import HeldOut, PosteriorFile

# --- verdict ---------------------------------------------------------------------------------


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
        """Offset clipped to the drawn range of ±5 standard errors."""
        return max(-5.0, min(5.0, self.offset or 0.0))


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


# --- calibration -----------------------------------------------------------------------------


@dataclass(frozen=True)
class ValidatorFindings:
    """One validator's checks, its figures without a verdict that no validator before it gave, its curves."""

    name: str
    rows: list[MetricRow]
    unjudged: list[MetricRow]
    curves: Picture | None


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


def _curves_picture(report: Report, spec: Spec) -> Picture:
    titles = [curve_title(curve, spec) for curve in report.curves]
    return make_picture(
        f"calibration_{report.validator}",
        f"Calibration curves of {report.validator}",
        f"Curves of {title(report.validator)} with their error bands (blue) and the ideal (dashed).",
        "a dashed line that stays inside the band. A curve that crosses it in the middle means draws "
        "that are too wide or too narrow; one that stays on one side means a bias.",
        lambda layout: figures.calibration_curves(report.curves, titles, layout),
    )


# --- held-out recovery -----------------------------------------------------------------------


@dataclass(frozen=True)
class RecoveryRow:
    """Recovery of one scalar or field channel; each entry is (text, ideal, standard errors off)."""

    name: Markup
    bias: EstimateText
    scatter: EstimateText
    coverage: EstimateText
    width: EstimateText


@dataclass(frozen=True)
class EstimateText:
    """A number as the table shows it; `far` says that it is more than 3 standard errors off its ideal."""

    text: str
    ideal: str
    off: str
    far: bool


@dataclass(frozen=True)
class HeldOutRecovery:
    """Recovery of truths over the calibration set."""

    rows: list[RecoveryRow]
    pictures: list[Picture]
    draws: int
    observations: int


def held_out_recovery(posterior: PosteriorFile) -> HeldOutRecovery | None:
    """Tables and figures of the calibration set; None where it is missing or too small to judge."""
    held_out = posterior.held_out
    if held_out is None:
        return None
    n, observations = next(iter(held_out.draws.values())).shape[:2]
    if n < FEWEST_DRAWS or observations < FEWEST_OBSERVATIONS:
        return None
    rows = [_recovery_row(name, *data) for name, data in _scalars(posterior.spec, held_out)]
    channels = list(_channels(posterior.spec, held_out))
    rows += [_recovery_row(short_title(one, c), *data) for one, c, data in channels]
    pictures = []
    if posterior.spec.vectors:
        pictures.append(_recovery_picture(posterior.spec.vectors, held_out))
    if channels:
        pictures.append(_error_picture(channels))
    return HeldOutRecovery(rows, pictures, n, observations)


def _scalars(spec: Spec, held_out: HeldOut) -> Iterable[tuple[Markup, tuple[Array, Array]]]:
    """Name, truth (B, 1) and draws (n, B, 1) of every scalar."""
    for vector in spec.vectors:
        for i, label in enumerate(labels_html(vector)):
            column = slice(i, i + 1)
            yield label, (held_out.truth[vector.name][:, column], held_out.draws[vector.name][..., column])


def _channels(spec: Spec, held_out: HeldOut) -> Iterable[tuple[Field, int, tuple[Array, Array]]]:
    """Field, channel, truth (B, P) and draws (n, B, P) of every channel."""
    for one in spec.fields:
        truth, draws = held_out.truth[one.name], held_out.draws[one.name]
        for channel in range(one.channels):
            flat = truth[:, channel].reshape(len(truth), -1)
            yield one, channel, (flat, draws[:, :, channel].reshape(len(draws), len(truth), -1))


def _recovery_row(name: Markup, truth: Array, draws: Array) -> RecoveryRow:
    found: Recovery = recovery(truth, draws)
    texts = (_estimate(e) for e in (found.bias, found.scatter, found.coverage, found.width))
    return RecoveryRow(name, *texts)


def _estimate(estimate: Estimate) -> EstimateText:
    offset = estimate.offset
    return EstimateText(
        text=plus_minus(estimate.value, estimate.error),
        ideal="" if estimate.ideal is None else f"{estimate.ideal:.3g}",
        off="" if offset is None else signed(offset, 1),
        far=offset is not None and abs(offset) > 3,
    )


def _recovery_picture(vectors: Sequence[Vector], held_out: HeldOut) -> Picture:
    labels = math_labels(vectors)
    units = [unit for vector in vectors for unit in vector.units]
    truth, draws = columns(vectors, held_out.truth), columns(vectors, held_out.draws)
    return make_picture(
        "recovery_parameters",
        "Inferred against true parameters of held-out simulations",
        "Posterior mean (dot) and standard deviation (bar) against the truth, one dot a held-out simulation.",
        "bars that meet the dashed line in two cases of three. A slope below one is no error: where "
        "data say little, the posterior mean stays near the prior's.",
        lambda layout: figures.recovery_plot(labels, units, truth, draws, layout),
    )


def _error_picture(channels: Sequence[tuple[Field, int, tuple[Array, Array]]]) -> Picture:
    found = [error_by_width(*data) for _, _, data in channels]
    titles = [figures.field_label(one, channel) for one, channel, _ in channels]
    units = [one.unit for one, _, _ in channels]
    return make_picture(
        "recovery_fields",
        "Actual against claimed error of the fields",
        "Root mean square error of the posterior mean against the standard deviation that the draws claim, "
        "in bins of pixels; error bars from the scatter between held-out simulations.",
        "points on the dashed line. Above it the draws are too narrow, below it too wide.",
        lambda layout: figures.error_plot(titles, units, found, layout),
    )
