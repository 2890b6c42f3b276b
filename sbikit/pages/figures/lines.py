"""Lines: fields of one axis, inferred or observed, and observed vectors."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from sbikit.pages.arrays import Array
from sbikit.pages.figures.labels import field_label, math_label, with_unit
from sbikit.pages.figures.panels import band, panels, tidy
from sbikit.pages.figures.shown_field import ShownField
from sbikit.pages.figures.style import MUTED, NARROW, POSTERIOR, TRUTH, WIDE, FigureLayout, styled
from sbikit.problem.variables import Field, Vector


@styled
def field_line(shown: ShownField, layout: FigureLayout) -> Figure:
    """A field of one axis: mean with bands of 68 % and 95 %, three draws, truth, summaries of the data."""
    field, draws, x = shown.field, shown.draws, _positions(shown.field)
    figure, (axes,) = panels(1, layout, height=0.38 if layout is WIDE else 0.8)
    band(axes, x, draws, POSTERIOR)
    for i, draw in enumerate(draws[:3]):
        axes.plot(x, draw, color=POSTERIOR, linewidth=0.7, alpha=0.6, label="_" if i else "draws")
    axes.plot(x, draws.mean(0), color=POSTERIOR, label="posterior mean")
    for i, one in enumerate(shown.summaries):
        axes.plot(x, one.values, ".x+"[i % 3], color=MUTED, markersize=3, label=one.label)
    if shown.truth is not None:
        axes.plot(x, shown.truth, color=TRUTH, linestyle="--", linewidth=1.2, label="truth")
    axes.set_xlabel(f"$x$ [{field.extent_unit}]")
    axes.set_ylabel(with_unit(field_label(field, shown.channel), field.unit))
    axes.set_xlim(0, field.extent[0])
    axes.legend(ncols=4 if layout is WIDE else 2, loc="best")
    tidy(axes)
    return figure


@styled
def data_lines(field: Field, values: Array, layout: FigureLayout) -> Figure:
    """Every channel of a field of one axis, values (C, n), NaN where they are missing."""
    figure, made = panels(field.channels, layout, height=0.5, columns=1 if layout is NARROW else 2)
    for channel, axes in enumerate(made):
        axes.plot(_positions(field), values[channel], color=TRUTH, linewidth=1.0)
        axes.set_xlabel(f"$x$ [{field.extent_unit}]")
        axes.set_ylabel(with_unit(field_label(field, channel), field.unit))
        tidy(axes)
    return figure


@styled
def data_points(vector: Vector, values: Array, layout: FigureLayout) -> Figure:
    """An observed vector, values (D,), NaN where they are missing."""
    figure, (axes,) = panels(1, layout, height=0.36 if layout is WIDE else 0.7)
    axes.plot(np.arange(len(values)), values, "o", color=TRUTH, markersize=4)
    axes.set_xlim(-0.5, len(values) - 0.5)
    few = len(values) <= (16 if layout is WIDE else 6)  # names that fit side by side, 0.55 inch each
    if few:
        names = [math_label(t, p) for t, p in zip(vector.latex, vector.labels, strict=True)]
        axes.set_xticks(np.arange(len(values)), names)
    axes.set_xlabel("" if few else "entry")
    axes.set_ylabel(with_unit(vector.name, vector.units[0] if len(set(vector.units)) == 1 else ""))
    tidy(axes)
    return figure


def _positions(field: Field) -> Array:
    return np.asarray((np.arange(field.grid[0]) + 0.5) * field.extent[0] / field.grid[0])
