"""What panels share: their arrangement, tidy axes, bands of draws, the line of equality."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from sbikit.pages.arrays import Array
from sbikit.pages.figures.style import GRID, TRUTH, WIDE, FigureLayout

THIRD = 4.1  # inches: the widest panel of a row of three, lest one or two alone look blown up


def panels(
    count: int, layout: FigureLayout, *, height: float, columns: int | None = None, widest: float = WIDE.width
) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels, each `height` times as high as wide and at most `widest` inches wide."""
    wanted = min(columns or layout.columns, layout.columns, count)
    rows = math.ceil(count / wanted)
    wanted = math.ceil(count / rows)
    width = min(layout.width / wanted, widest)
    size = (width * wanted, width * height * rows)
    # Gaps: in inches around a panel, and as shares of its size between panels.
    engine = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06, wspace=0.03, hspace=0.05)
    figure = Figure(figsize=size, layout=engine)
    made = [figure.add_subplot(rows, wanted, i + 1) for i in range(count)]
    return figure, made


def tidy(axes: Axes) -> None:
    """Two spines and a light grid."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(color=GRID, linewidth=0.6)


def band(axes: Axes, x: Array, rows: Array, colour: str) -> None:
    """68 % and 95 % bands of rows (n, K)."""
    for low, high, alpha in ((0.025, 0.975, 0.16), (0.16, 0.84, 0.28)):
        edges = np.quantile(rows, [low, high], axis=0)
        axes.fill_between(x, *edges, color=colour, alpha=alpha, linewidth=0, zorder=1)


def equality(axes: Axes, values: Array, *, square: bool = False) -> None:
    """The line y = x over the range of the values, which becomes that of x, and of y in a square."""
    low, high = float(values.min()), float(values.max())
    margin = 0.06 * (high - low) or 0.5
    ends = (low - margin, high + margin)
    axes.plot(ends, ends, color=TRUTH, linestyle="--", linewidth=1.0, zorder=2)
    axes.set_xlim(*ends)
    if square:
        axes.set_ylim(*ends)
