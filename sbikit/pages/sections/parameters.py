"""Parameters: their posterior given the shown observation, as a table and a corner plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from sbikit.pages.arrays import Array, columns
from sbikit.pages.figures.contours import corner_plot
from sbikit.pages.figures.labels import with_unit
from sbikit.pages.marginal import Marginal, marginal
from sbikit.pages.names import labels_html, math_labels
from sbikit.pages.numbers import plural, plus_minus, rounded, signed
from sbikit.pages.pictures import Picture, make_picture
from sbikit.problem.bounds import Bounds
from sbikit.problem.variables import Vector
from sbikit.storage.posterior import PosteriorFile

MOST_PARAMETERS = 10  # of a corner plot: of more, a panel is less than 0.9 inch wide
FEWEST_DRAWS = 20  # of one, and two a parameter: of fewer, contours are rings around single draws


@dataclass(frozen=True)
class ParameterRow:
    """One parameter of the shown observation."""

    name: Markup
    unit: str
    mean: str
    mean_error: str
    sd: str
    sd_error: str
    interval: str
    truth: str
    offset: str
    reference: str
    shift: str
    ratio: str


@dataclass(frozen=True)
class ParametersSection:
    """The parameters' posterior given the shown observation."""

    rows: list[ParameterRow]
    corner: Picture | None
    no_corner: str
    has_truth: bool
    has_reference: bool
    draws: int


def parameters(posterior: PosteriorFile) -> ParametersSection | None:
    """Table and corner plot of all latent vectors together."""
    vectors = posterior.spec.vectors
    if not vectors:
        return None
    draws = columns(vectors, posterior.posterior)
    truth = None if posterior.truth is None else columns(vectors, posterior.truth)
    reference = None if posterior.reference is None else columns(vectors, posterior.reference)
    names = [label for vector in vectors for label in labels_html(vector)]
    units = [unit for vector in vectors for unit in vector.units]
    rows = [
        _parameter_row(
            name,
            unit,
            marginal(draws[:, i]),
            None if truth is None else float(truth[i]),
            None if reference is None else marginal(reference[:, i]),
        )
        for i, (name, unit) in enumerate(zip(names, units, strict=True))
    ]
    reason = _no_corner(draws, reference)
    bounds = tuple(ends for vector in vectors for ends in posterior.bounds[vector.name])
    corner = None if reason else _corner_picture(vectors, bounds, draws, truth, reference)
    return ParametersSection(rows, corner, reason, truth is not None, reference is not None, len(draws))


def _parameter_row(
    name: Markup, unit: str, found: Marginal, truth: float | None, reference: Marginal | None
) -> ParameterRow:
    coarse = found.sd / 5  # digits beyond it say nothing of where the truth or an interval lies
    sure = found.sd > 0
    compared = reference is not None and reference.sd > 0
    return ParameterRow(
        name=name,
        unit=unit,
        mean=rounded(found.mean, found.mean_error),
        mean_error=rounded(found.mean_error, found.mean_error),
        sd=rounded(found.sd, found.sd_error),
        sd_error=rounded(found.sd_error, found.sd_error),
        interval=f"{rounded(found.low, coarse)} … {rounded(found.high, coarse)}",
        truth="" if truth is None else rounded(truth, coarse),
        offset=signed((found.mean - truth) / found.sd) if truth is not None and sure else "",
        reference="" if reference is None else plus_minus(reference.mean, reference.sd),
        shift=signed((found.mean - reference.mean) / reference.sd) if reference and compared else "",
        ratio=f"{found.sd / reference.sd:.2f}" if reference and compared else "",
    )


def _no_corner(draws: Array, reference: Array | None) -> str:
    """Why there is no corner plot, "" where there is one."""
    count = draws.shape[1]
    if count > MOST_PARAMETERS:
        return f"No corner plot is drawn for more than {MOST_PARAMETERS} parameters; here are {count}."
    for rows in (draws, *([] if reference is None else [reference])):
        if len(rows) < max(FEWEST_DRAWS, 2 * count):
            return f"{plural(len(rows), 'draw')} are too few for a corner plot."
        if (np.ptp(np.quantile(rows, [0.16, 0.84], axis=0), axis=0) == 0).any():
            return "A parameter has the same value in most draws, so there is nothing to draw contours of."
    return ""


def _corner_picture(
    vectors: Sequence[Vector], bounds: Bounds, draws: Array, truth: Array | None, reference: Array | None
) -> Picture:
    units = [unit for vector in vectors for unit in vector.units]
    labels = [with_unit(a, u) for a, u in zip(math_labels(vectors), units, strict=True)]
    look = "contours without holes or islands"
    if truth is not None:
        look = "the truth (dashed) inside the outer contour, in about 95 of 100 such plots"
    if reference is not None:
        look += "; blue and orange contours of the same place, size and tilt"
    return make_picture(
        "corner",
        "Corner plot of the parameters",
        "Marginal posteriors of the parameters; contours hold 68 % and 95 % of the draws.",
        look + ".",
        lambda layout: corner_plot(labels, draws, truth, reference, layout, bounds=bounds),
    )
