"""Held-out recovery: posterior means and widths against the truths of many simulations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from sbikit.problem.spec import Spec
from sbikit.problem.variables import Field, Vector
from sbikit.report.arrays import Array, channels, columns
from sbikit.report.figures.against_truth import error_plot, recovery_plot
from sbikit.report.figures.cells import cells
from sbikit.report.figures.labels import field_label
from sbikit.report.names import labels_html, math_labels, short_title
from sbikit.report.numbers import plus_minus, signed
from sbikit.report.pictures import Picture, make_picture
from sbikit.report.recovery import (
    FEWEST_DRAWS,
    FEWEST_OBSERVATIONS,
    Estimate,
    Recovery,
    error_by_width,
    recovery,
)
from sbikit.storage.posterior import HeldOut, PosteriorFile

FAR = 3.0  # standard errors: of 1,000 true numbers 3 lie farther off by chance


@dataclass(frozen=True)
class EstimateText:
    """A number as the table shows it; `far` says that it is more than `FAR` off its ideal."""

    text: str
    ideal: str
    off: str
    far: bool


@dataclass(frozen=True)
class RecoveryRow:
    """Recovery of one scalar or field channel."""

    name: Markup
    bias: EstimateText
    scatter: EstimateText
    coverage: EstimateText
    width: EstimateText


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
    parts = list(channels(posterior.spec.fields, held_out))
    rows += [_recovery_row(short_title(one, c), *data) for one, c, data in parts]
    pictures = []
    if posterior.spec.vectors:
        pictures.append(_recovery_picture(posterior.spec.vectors, held_out))
    if parts:
        pictures.append(_error_picture(parts))
    return HeldOutRecovery(rows, pictures, n, observations)


def _scalars(spec: Spec, held_out: HeldOut) -> Iterable[tuple[Markup, tuple[Array, Array]]]:
    """Name, truth (B, 1) and draws (n, B, 1) of every scalar."""
    for vector in spec.vectors:
        for i, label in enumerate(labels_html(vector)):
            column = slice(i, i + 1)
            yield label, (held_out.truth[vector.name][:, column], held_out.draws[vector.name][..., column])


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
        far=offset is not None and abs(offset) > FAR,
    )


def _recovery_picture(vectors: Sequence[Vector], held_out: HeldOut) -> Picture:
    labels = math_labels(vectors)
    units = [unit for vector in vectors for unit in vector.units]
    truth, draws = columns(vectors, held_out.truth), columns(vectors, held_out.draws)
    return make_picture(
        "recovery_parameters",
        "Inferred against true parameters of held-out simulations",
        "Posterior mean (dot) and 68 % interval (bar) against the truth, one dot a held-out simulation.",
        "bars that meet the dashed line in two cases of three. A slope below one is no error: where "
        "data say little, the posterior mean stays near the prior's.",
        lambda layout: recovery_plot(labels, units, truth, draws, layout),
    )


def _error_picture(parts: Sequence[tuple[Field, int, tuple[Array, Array]]]) -> Picture:
    found = [error_by_width(*data) for _, _, data in parts]
    titles = [field_label(one, channel) for one, channel, _ in parts]
    units = [one.unit for one, _, _ in parts]
    noun = cells(*(one for one, _, _ in parts))
    return make_picture(
        "recovery_fields",
        "Actual against claimed error of the fields",
        "Root mean square error of the posterior mean against the standard deviation that the draws claim, "
        f"in bins of {noun}; error bars from the scatter between held-out simulations.",
        "points on the dashed line. Above it the draws are too narrow, below it too wide.",
        lambda layout: error_plot(titles, units, found, layout),
    )
