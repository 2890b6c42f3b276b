"""Fields: maps and statistics of every channel of the latent fields, given the shown observation."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from sbikit.pages.figures.cells import cells
from sbikit.pages.figures.field_statistics import field_statistics
from sbikit.pages.figures.labels import math_label
from sbikit.pages.figures.lines import field_line
from sbikit.pages.figures.maps import field_maps
from sbikit.pages.figures.shown_field import FieldSummary, ShownField
from sbikit.pages.names import channel_title
from sbikit.pages.numbers import plural
from sbikit.pages.pictures import Picture, make_picture
from sbikit.pages.sections.moments import MomentRow, moment_rows
from sbikit.problem.variables import Field
from sbikit.storage.posterior import PosteriorFile

_TAPER = (
    " Before their power is taken fields are tapered towards the edges (Hann), since the grid does not close."
)
OPEN_CHANNELS = 2  # that are shown at once, about a screen each; the others are folded


@dataclass(frozen=True)
class FieldChannel:
    """Everything about one channel of one latent field."""

    title: Markup
    folded: bool
    maps: Picture
    statistics: Picture
    moments: list[MomentRow]
    cells: str


def fields(posterior: PosteriorFile) -> list[FieldChannel]:
    """Maps and statistics of every latent field's channels."""
    return [
        _field_channel(posterior, one, channel)
        for one in posterior.spec.fields
        for channel in range(one.channels)
    ]


def _shown_field(posterior: PosteriorFile, one: Field, channel: int) -> ShownField:
    name = one.name
    estimates = (one for one in posterior.summarised if isinstance(one, Field) and one.estimates == name)
    return ShownField(
        one,
        channel,
        draws=posterior.posterior[name][:, channel],
        truth=None if posterior.truth is None else posterior.truth[name][channel],
        reference=None if posterior.reference is None else posterior.reference[name][:, channel],
        summaries=tuple(
            FieldSummary(math_label(s.latex, s.name), posterior.summaries[s.name][channel])
            for s in estimates
            if s.shape == one.shape
        ),
    )


def _field_channel(posterior: PosteriorFile, one: Field, channel: int) -> FieldChannel:
    shown = _shown_field(posterior, one, channel)
    suffix = one.name if one.channels == 1 else f"{one.name}_{channel + 1}"
    return FieldChannel(
        title=channel_title(one, channel),
        folded=channel >= OPEN_CHANNELS,
        maps=_field_picture(shown, suffix),
        statistics=_statistics_picture(shown, suffix),
        moments=moment_rows(shown),
        cells=cells(one),
    )


def _field_picture(shown: ShownField, suffix: str) -> Picture:
    flat = len(shown.field.grid) == 1
    return make_picture(
        f"field_{suffix}",
        f"Posterior of the field {shown.field.name}",
        _line_caption(shown) if flat else _map_caption(shown),
        _look(shown),
        lambda layout: (field_line if flat else field_maps)(shown, layout),
    )


def _line_caption(shown: ShownField) -> str:
    points = " Points: a summary of the data alone." if shown.summaries else ""
    return f"Posterior mean with bands of 68 % and 95 %, and {_draws(shown)}.{points}"


def _map_caption(shown: ShownField) -> str:
    head = "Posterior" if shown.truth is None else "Truth, posterior"
    caption = (
        f"{head} mean and {_draws(shown)} on one colour scale; the draws' standard deviation on its own."
    )
    if shown.summaries:
        caption += " *A summary of the data alone, on its own colour scale."
    if len(shown.field.grid) == 3:
        caption += " Of three axes, the middle slice is shown."
    return caption


def _draws(shown: ShownField) -> str:
    """Those that are drawn one by one, three at most."""
    return "three draws" if len(shown.draws) > 2 else plural(len(shown.draws), "draw")


def _look(shown: ShownField) -> str:
    if shown.truth is None:
        return "draws that differ from each other where the standard deviation is large."
    if len(shown.field.grid) == 1:
        return "a truth that stays inside the 95 % band for about 95 % of the points."
    return (
        "draws that look like the truth in texture and contrast, a mean that is smoother than either, "
        "and a map of (mean − truth) / sd without structure, about 95 % of its pixels within ±2."
    )


def _statistics_picture(shown: ShownField, suffix: str) -> Picture:
    if not shown.field.stationary:
        return _one_point_picture(shown, suffix)
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
        parts + "; bands hold 68 % and 95 % of the draws." + ("" if shown.field.periodic else _TAPER),
        look + ".",
        lambda layout: field_statistics(shown, layout),
    )


def _one_point_picture(shown: ShownField, suffix: str) -> Picture:
    """Of a field that is not declared stationary: a spectrum would mix places that differ."""
    look = "bands without a pile-up where the support ends"
    if shown.truth is not None:
        look = "a truth inside the 68 % band at about two thirds of the values"
    if shown.reference is not None:
        look += "; blue and orange that agree"
    return make_picture(
        f"statistics_{suffix}",
        f"Statistics of posterior draws of {shown.field.name}",
        "One-point distribution of the draws over all pixels; bands hold 68 % and 95 % of the draws. The "
        "field is not declared stationary, so no power spectrum is shown.",
        look + ".",
        lambda layout: field_statistics(shown, layout),
    )
