"""Maps in rows, each above its colour bar, with every length in inches.

matplotlib's constrained layout cuts titles off, or leaves gaps, where panels have a shape of their own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sbikit.pages.figures.style import FigureLayout

_LEFT, _RIGHT, _BETWEEN = 0.62, 0.18, 0.30  # y label with five digits; half a tick's label; between maps
_TITLE, _X_LABEL = 0.32, 0.40  # above a map; tick labels and label below it
_GAP, _BAR, _BAR_TICKS, _BAR_UNIT = 0.10, 0.085, 0.24, 0.16  # colour bar: above it, its height, and below it
_WIDEST, _TALLEST = 2.6, 4.5  # of one map: a few do not fill the page, a long one not the screen


@dataclass(frozen=True)
class Cell:
    """A map's axes, those of its colour bar, and whether it stands at the left and at the bottom."""

    axes: Axes
    bar: Axes
    left: bool
    bottom: bool


@dataclass(frozen=True)
class _Sizes:
    """Inches of a figure: maps in a row, width and height of each, and what is below each row of maps."""

    across: int
    width: float
    height: float
    below: tuple[float, ...]

    @property
    def figure(self) -> tuple[float, float]:
        """Width and height of the figure."""
        wide = _LEFT + self.across * self.width + (self.across - 1) * _BETWEEN + _RIGHT
        return wide, len(self.below) * (_TITLE + self.height) + sum(self.below)


def map_grid(count: int, shape: float, layout: FigureLayout, *, unit: bool) -> tuple[Figure, list[Cell]]:
    """A figure with room for maps.

    Args:
        count: how many.
        shape: height over width of each.
        layout: the layout.
        unit: whether colour bars have a unit.
    """
    sizes = _sizes(count, shape, layout, _BAR_TICKS + (_BAR_UNIT if unit else 0.0))
    figure = Figure(figsize=sizes.figure)
    return figure, [_cell(figure, sizes, i, count) for i in range(count)]


def _sizes(count: int, shape: float, layout: FigureLayout, under_bar: float) -> _Sizes:
    rows = math.ceil(count / min(layout.columns, count))
    across = math.ceil(count / rows)
    room = (layout.width - _LEFT - _RIGHT - (across - 1) * _BETWEEN) / across
    width = min(room, _WIDEST, _TALLEST / shape)
    # Where the last row is not full, the one above it has maps at the bottom too.
    labelled = [(row + 2) * across > count for row in range(rows)]
    below = tuple((_X_LABEL if one else 0.0) + _GAP + _BAR + under_bar for one in labelled)
    return _Sizes(across, width, width * shape, below)


def _cell(figure: Figure, sizes: _Sizes, i: int, count: int) -> Cell:
    row, column = divmod(i, sizes.across)
    wide, high = sizes.figure
    left = _LEFT + column * (sizes.width + _BETWEEN)
    bottom = high - (row + 1) * (_TITLE + sizes.height) - sum(sizes.below[:row])
    label = _X_LABEL if (row + 2) * sizes.across > count else 0.0
    bar = bottom - label - _GAP - _BAR
    return Cell(
        figure.add_axes((left / wide, bottom / high, sizes.width / wide, sizes.height / high)),
        figure.add_axes((left / wide, bar / high, sizes.width / wide, _BAR / high)),
        left=column == 0,
        bottom=i + sizes.across >= count,
    )
