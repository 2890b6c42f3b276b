"""Maps: the posterior of a field beside its truth and what the data alone say, and observed fields.

Of a field of three axes the middle slice along the first one is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sbikit.pages.arrays import Array
from sbikit.pages.figures.labels import math_label
from sbikit.pages.figures.map_grid import Cell, map_grid
from sbikit.pages.figures.shown_field import ShownField
from sbikit.pages.figures.style import WIDE, FigureLayout, styled
from sbikit.problem.variables import Field

_SHORT = 6  # letters of a tick that fit below a map beside four others
_FLATTEST = (
    0.3  # height over width, or its inverse, of the room for a map: longer ones leave some of it empty
)


@dataclass(frozen=True)
class _Map:
    """One map: its title, pixels, colour map and the range of its scale."""

    title: str
    values: Array
    colours: str
    low: float
    high: float
    unit: str = ""


@styled
def field_maps(shown: ShownField, layout: FigureLayout) -> Figure:
    """Truth, mean, standard deviation, residual or signal-to-noise, three draws, summaries of the data.

    The field has two axes or three.
    """
    field, unit = shown.field, shown.field.unit
    mean, sd = _middle(shown.draws.mean(0)), _middle(shown.draws.std(0, ddof=1))
    draws = [_middle(draw) for draw in shown.draws[:3]]
    known = [] if shown.truth is None else [_middle(shown.truth)]
    low, high = _robust_range(mean, *draws, *known)
    safe = np.maximum(sd, np.finfo(np.float32).tiny)
    maps = [_Map("truth", one, "viridis", low, high, unit) for one in known]
    maps.append(_Map("posterior mean", mean, "viridis", low, high, unit))
    maps.append(_Map("posterior sd", sd, "magma", *_robust_range(sd), unit))
    if known:
        maps.append(_Map("(mean − truth) / sd", (mean - known[0]) / safe, "coolwarm", -3.0, 3.0))
    else:
        maps.append(_Map("mean / sd", mean / safe, "coolwarm", *_symmetric(mean / safe)))
    maps += [_Map(f"draw {i + 1}", one, "viridis", low, high, unit) for i, one in enumerate(draws)]
    for one in shown.summaries:
        values = _middle(one.values)
        maps.append(_Map(f"{one.label}*", values, "viridis", *_robust_range(values), unit))
    return _draw_maps(maps, field, layout)


@styled
def data_maps(field: Field, values: Array, layout: FigureLayout, *, signed: bool) -> Figure:
    """Every channel of a field, on one scale.

    Args:
        field: a field of two or three axes.
        values: (C, *grid), NaN where they are missing.
        layout: the layout.
        signed: whether colours diverge from zero.
    """
    scale = _symmetric(values) if signed else _robust_range(values)
    colours = "coolwarm" if signed else "viridis"
    name = math_label(field.latex, field.name)
    titles = (
        [name]
        if field.channels == 1
        else [f"{name}, channel {channel + 1} of {field.channels}" for channel in range(field.channels)]
    )
    maps = [
        _Map(title, _middle(channel), colours, *scale, field.unit)
        for title, channel in zip(titles, values, strict=True)
    ]
    return _draw_maps(maps, field, layout)


def _middle(values: Array) -> Array:
    """A 3-D field's middle slice along its first axis; other fields as they are."""
    return values[values.shape[0] // 2] if values.ndim == 3 else values


def _robust_range(*values: Array) -> tuple[float, float]:
    """The 0.3 % and 99.7 % quantiles of all pixels together: a scale that no outlier sets."""
    pixels = np.concatenate([v[np.isfinite(v)] for v in values])
    low, high = np.quantile(pixels if pixels.size else [0.0], [0.003, 0.997])
    return (float(low), float(high)) if high > low else (float(low) - 0.5, float(low) + 0.5)


def _symmetric(*values: Array) -> tuple[float, float]:
    low, high = _robust_range(*values)
    size = max(abs(low), abs(high))
    return -size, size


def _draw_maps(maps: Sequence[_Map], field: Field, layout: FigureLayout) -> Figure:
    down, right = field.extent[-2:]
    shape = min(max(down / right, _FLATTEST), 1 / _FLATTEST)
    figure, cells = map_grid(len(maps), shape, layout, unit=any(one.unit for one in maps))
    for cell, one in zip(cells, maps, strict=True):
        _draw_map(figure, cell, one, field, layout)
    return figure


def _steps(one: _Map, most: int) -> int:
    """Steps between ticks of a colour bar: fewer where their labels are long."""
    digits = max(len(f"{tick:g}") for tick in MaxNLocator(most).tick_values(one.low, one.high))
    return most if digits <= _SHORT else max(2, most - 2)


def _draw_map(figure: Figure, cell: Cell, one: _Map, field: Field, layout: FigureLayout) -> None:
    down, right = field.extent[-2:]
    axes = cell.axes
    image = axes.imshow(
        one.values, cmap=one.colours, vmin=one.low, vmax=one.high, extent=(0.0, right, 0.0, down)
    )
    axes.set_title(one.title)
    axes.set_xlabel(f"$x$ [{field.extent_unit}]" if cell.bottom else "")
    axes.set_ylabel(f"$y$ [{field.extent_unit}]" if cell.left else "")
    few = 4 if layout is WIDE else 3  # steps between ticks for which labels fit below a map
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(few))
    axes.tick_params(labelbottom=cell.bottom, labelleft=cell.left, length=2.5)
    bar = figure.colorbar(image, cax=cell.bar, orientation="horizontal", ticks=MaxNLocator(_steps(one, few)))
    bar.outline.set_visible(False)
    cell.bar.tick_params(labelsize=7.5, length=2)
    if one.unit:
        bar.set_label(one.unit, fontsize=7.5)
