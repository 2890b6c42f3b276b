"""The shown observation on the report's page: the data, the parameters and the fields inferred from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from sbikit.fields.moments import moments
from sbikit.problem.errors import RunFolderError
from sbikit.problem.variables import Field, Variable, Vector
from sbikit.report import figures
from sbikit.report.parts import (
    Array,
    Picture,
    channel_title,
    columns,
    labels_html,
    make_picture,
    math_labels,
    plural,
    plus_minus,
    rounded,
    signed,
    title,
)
from sbikit.report.recovery import Marginal, marginal
from sbikit.storage.posterior import PosteriorFile

MOST_PARAMETERS = 10
OPEN_CHANNELS = 2


def check_enough_draws(posterior: PosteriorFile) -> None:
    """Refuse a posterior of which no spread can be shown.

    Raises:
        RunFolderError: fewer than two draws of the shown observation or of the reference.
    """
    for name, group in (("posterior", posterior.posterior), ("reference", posterior.reference)):
        count = len(next(iter(group.values()))) if group else 2
        if count < 2:
            raise RunFolderError(
                "A report needs at least two draws.",
                where=f"posterior.nc, group {name}",
                expected="2 draws or more",
                got=str(count),
                fix="raise the number of draws under sampling in run.yaml",
            )


# --- the observation -------------------------------------------------------------------------


def observation(posterior: PosteriorFile) -> list[Picture]:
    """Figures of the shown data and their summaries."""
    pictures = [_observed(v, posterior.observed[v.name]) for v in posterior.spec.observables]
    for one in posterior.summary_fields:
        pictures.append(
            _field_data(
                one,
                posterior.summaries[one.name],
                f"summary_{one.name}",
                f"Summary map {title(one.name)}, computed from the data alone.",
                "structure that the posterior mean should sharpen, and noise that it should suppress.",
                signed=False,
            )
        )
    return pictures


def _observed(variable: Variable, values: Array) -> Picture:
    name = f"observation_{variable.name}"
    if isinstance(variable, Vector):
        return make_picture(
            name,
            f"The observed vector {variable.name}",
            f"The observed {variable.name}.",
            "entries far from the others.",
            lambda layout: figures.data_points(variable, values, layout),
        )
    return _field_data(
        variable,
        values,
        name,
        f"The observed {title(variable.name)}"
        + (f", {variable.channels} channels on one colour scale." if variable.channels > 1 else "."),
        "stripes, edges or outliers that the simulator does not make.",
        signed=_around_zero(values),
    )


def _around_zero(values: Array) -> bool:
    return bool(values.min() < 0 < values.max() and abs(values.mean()) < 0.5 * values.std())


def _field_data(one: Field, values: Array, name: str, caption: str, look: str, *, signed: bool) -> Picture:
    middle = " Of three axes, the middle slice is shown." if len(one.grid) == 3 else ""

    def draw(layout: figures.Layout) -> Figure:
        if len(one.grid) == 1:
            return figures.data_lines(one, values, layout)
        return figures.data_maps([(one, values)], layout, signed=signed)

    return make_picture(name, f"{title(one.name)} of the shown observation", caption + middle, look, draw)


# --- latent fields ---------------------------------------------------------------------------


@dataclass(frozen=True)
class MomentRow:
    """A one-point statistic: draws (mean ± scatter), truth, offset in scatters, reference."""

    name: str
    draws: str
    truth: str
    offset: str
    reference: str


@dataclass(frozen=True)
class FieldChannel:
    """Everything about one channel of one latent field."""

    title: Markup
    folded: bool
    maps: Picture
    statistics: Picture
    moments: list[MomentRow]


def fields(posterior: PosteriorFile) -> list[FieldChannel]:
    """Maps and statistics of every latent field's channels."""
    return [
        _field_channel(posterior, one, channel)
        for one in posterior.spec.fields
        for channel in range(one.channels)
    ]


def _shown_field(posterior: PosteriorFile, one: Field, channel: int) -> figures.ShownField:
    name = one.name
    direct = next(
        (s for s in posterior.summary_fields if s.name.startswith(f"{name}_") and s.shape == one.shape), None
    )
    return figures.ShownField(
        one,
        channel,
        draws=posterior.posterior[name][:, channel],
        truth=None if posterior.truth is None else posterior.truth[name][channel],
        reference=None if posterior.reference is None else posterior.reference[name][:, channel],
        summary=None if direct is None else posterior.summaries[direct.name][channel],
    )


def _field_channel(posterior: PosteriorFile, one: Field, channel: int) -> FieldChannel:
    shown = _shown_field(posterior, one, channel)
    suffix = one.name if one.channels == 1 else f"{one.name}_{channel + 1}"
    return FieldChannel(
        title=channel_title(one, channel),
        folded=channel >= OPEN_CHANNELS,
        maps=_field_picture(shown, suffix),
        statistics=_statistics_picture(shown, suffix),
        moments=_moment_rows(shown),
    )


def _field_picture(shown: figures.ShownField, suffix: str) -> Picture:
    one = shown.field
    flat = len(one.grid) == 1
    known = shown.truth is not None
    caption = (
        "Posterior mean with bands of 68 % and 95 %, and three draws."
        if flat
        else f"{'Truth, p' if known else 'P'}osterior mean and three draws on one colour scale; "
        "the standard deviation of the draws on its own."
    )
    if shown.summary is not None and not flat:
        caption += " *Direct inversion: a summary of the data alone, on its own colour scale."
    if len(one.grid) == 3:
        caption += " Of three axes, the middle slice is shown."
    look = "draws that differ from each other where the standard deviation is large"
    if known and flat:
        look = "a truth that stays inside the 95 % band for about 95 % of the pixels"
    elif known:
        look = (
            "draws that look like the truth in texture and contrast, a mean that is smoother than either, "
            "and a map of (mean − truth) / sd without structure, about 95 % of its pixels within ±2"
        )
    return make_picture(
        f"field_{suffix}",
        f"Posterior of the field {one.name}",
        caption,
        look + ".",
        lambda layout: (figures.field_line if flat else figures.field_maps)(shown, layout),
    )


def _statistics_picture(shown: figures.ShownField, suffix: str) -> Picture:
    known = shown.truth is not None
    parts = "Power spectrum and one-point distribution of the draws"
    if known:
        parts = (
            "Power spectrum of the draws, its ratio to the truth's, correlation coefficient r(k) of draws "
            "(solid) and posterior mean (dotted) with the truth, and one-point distribution"
        )
    look = (
        "a truth inside the 68 % band at about two thirds of the points, on large scales as on small ones; "
        "a correlation that falls where noise wins"
        if known
        else "a smooth spectrum without a pile-up of power at the smallest scales"
    )
    if shown.reference is not None:
        look += "; blue and orange that agree"
    return make_picture(
        f"statistics_{suffix}",
        f"Statistics of posterior draws of {shown.field.name}",
        parts + "; bands hold 68 % and 95 % of the draws.",
        look + ".",
        lambda layout: figures.field_statistics(shown, layout),
    )


def _moment_rows(shown: figures.ShownField) -> list[MomentRow]:
    axes = len(shown.field.grid)
    found = moments(shown.draws, axes=axes)
    true = None if shown.truth is None else moments(shown.truth, axes=axes)
    reference = None if shown.reference is None else moments(shown.reference, axes=axes)
    names = {
        "mean": "mean",
        "sd": "standard deviation",
        "skewness": "skewness",
        "kurtosis": "excess kurtosis",
    }
    rows = []
    for key, words in names.items():
        values = getattr(found, key)
        centre, spread = float(values.mean()), float(values.std(ddof=1))
        truth = None if true is None else float(getattr(true, key))
        other = None if reference is None else getattr(reference, key)
        if key == "mean" and max(abs(centre), abs(truth or 0.0), spread) < 1e-5 * float(found.sd.mean()):
            continue  # the mean is zero by construction
        rows.append(
            MomentRow(
                name=words,
                draws=plus_minus(centre, spread),
                truth="" if truth is None else rounded(truth, spread),
                offset="" if truth is None or spread == 0 else signed((centre - truth) / spread),
                reference="" if other is None else plus_minus(float(other.mean()), float(other.std(ddof=1))),
            )
        )
    return rows


# --- parameters ------------------------------------------------------------------------------


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
class Parameters:
    """The parameters' posterior given the shown observation."""

    rows: list[ParameterRow]
    corner: Picture | None
    no_corner: str
    has_truth: bool
    has_reference: bool
    draws: int


def parameters(posterior: PosteriorFile) -> Parameters | None:
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
            None if reference is None or len(reference) < 2 else marginal(reference[:, i]),
        )
        for i, (name, unit) in enumerate(zip(names, units, strict=True))
    ]
    reason = _no_corner(draws, reference)
    corner = None if reason else _corner_picture(vectors, draws, truth, reference)
    return Parameters(rows, corner, reason, truth is not None, reference is not None, len(draws))


def _parameter_row(
    name: Markup, unit: str, found: Marginal, truth: float | None, reference: Marginal | None
) -> ParameterRow:
    coarse = found.sd / 5
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
        if len(rows) < max(20, 2 * count):
            return f"{plural(len(rows), 'draw')} are too few for a corner plot."
        if (np.ptp(np.quantile(rows, [0.16, 0.84], axis=0), axis=0) == 0).any():
            return "A parameter has the same value in most draws, so there is nothing to draw contours of."
    return ""


def _corner_picture(
    vectors: Sequence[Vector], draws: Array, truth: Array | None, reference: Array | None
) -> Picture:
    units = [unit for vector in vectors for unit in vector.units]
    labels = [f"{a} [{u}]" if u else a for a, u in zip(math_labels(vectors), units, strict=True)]
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
        lambda layout: figures.corner_plot(labels, draws, truth, reference, layout),
    )
