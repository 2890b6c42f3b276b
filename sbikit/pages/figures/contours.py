"""The corner plot: marginals of parameters, alone and in pairs."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from sbikit.pages.arrays import Array
from sbikit.pages.figures.style import POSTERIOR, REFERENCE, TRUTH, WIDE, FigureLayout, styled
from sbikit.problem.bounds import Bounds

_FRAME, _PANEL_WIDE, _PANEL_NARROW = 1.2, 1.95, 1.4  # inches around the panels, and of a panel's side

# corner's histograms: smoothing in bins. Less shows the noise of a few hundred draws as islands and holes in
# the contours, more widens the posterior.
_SMOOTH_PAIRS, _SMOOTH_SINGLE = 1.2, 1.0


@styled
def corner_plot(
    labels: Sequence[str],
    draws: Array,
    truth: Array | None,
    reference: Array | None,
    layout: FigureLayout,
    *,
    bounds: Bounds = (),
) -> Figure:
    """Marginals of parameters: 68 % and 95 % regions.

    Where a parameter has a bound, the panel ends there, and smoothing takes nothing across: it reflects.

    Args:
        labels: D names as matplotlib sets them.
        draws: (n, D), n > D, no column constant.
        truth: (D,), if known.
        reference: (m, D), if any.
        layout: the layout.
        bounds: D lowest and highest values, infinite where there are none; none at all where left out.
    """
    count = len(labels)
    side = min(layout.width, _FRAME + (_PANEL_WIDE if layout is WIDE else _PANEL_NARROW) * count)
    figure = Figure(figsize=(side, side))
    figure.subplots(count, count, squeeze=False)
    sets = [draws] if reference is None else [reference, draws]
    ranges = _ranges(sets, truth, bounds or ((-math.inf, math.inf),) * count)
    for rows, colour in zip(sets, [REFERENCE, POSTERIOR][-len(sets) :], strict=True):
        _add_contours(figure, rows, colour, _style(labels, ranges, layout))
    grid = np.array(figure.axes).reshape(count, count)
    _finish(grid, truth)
    _add_legend(figure, len(sets) > 1, truth is not None, single=count == 1)
    return figure


def _style(labels: Sequence[str], ranges: list[tuple[float, float]], layout: FigureLayout) -> dict[str, Any]:
    """What corner is told of every set of draws alike, made anew for each, since corner writes into it."""
    return {
        "labels": list(labels),
        "range": ranges,
        "smooth": _SMOOTH_PAIRS,
        "smooth1d": _SMOOTH_SINGLE,
        "levels": (0.68, 0.95),
        "plot_datapoints": False,
        "plot_density": False,
        "fill_contours": False,
        "no_fill_contours": True,
        "contour_kwargs": {"linewidths": 1.4},
        "hist_kwargs": {"linewidth": 1.5},
        "max_n_ticks": 4,
        "labelpad": -0.1 if layout is WIDE else -0.02,
        "label_kwargs": {"fontsize": 10},
    }


def _add_contours(figure: Figure, rows: Array, colour: str, style: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        # corner imports arviz, which once a day announces a rebuilding of its own.
        warnings.filterwarnings("ignore", category=FutureWarning, module="arviz")
        import corner

    bins = _bins(rows)
    density = np.full(len(rows), bins / len(rows))  # so that sets of different size are as high
    corner.corner(rows.astype(np.float64), fig=figure, bins=bins, weights=density, color=colour, **style)


def _bins(rows: Array) -> int:
    """Bins an axis, about as many as draws in each; fewer than 12 would make contours polygons."""
    return int(np.clip(1.1 * math.sqrt(len(rows)), 12, 30))


def _ranges(sets: Sequence[Array], truth: Array | None, bounds: Bounds) -> list[tuple[float, float]]:
    """For each parameter, the inner 99.6 % of every set and the truth, with a margin up to its bounds.

    A bound that draws cross is no end: they are to be seen.
    """
    rows = [np.quantile(one, [0.002, 0.998], axis=0) for one in sets]
    if truth is not None:
        rows.append(np.stack([truth, truth]))
    low, high = np.min([r[0] for r in rows], axis=0), np.max([r[1] for r in rows], axis=0)
    margin = 0.2 * (high - low)
    least, most = np.min([one.min(0) for one in sets], axis=0), np.max([one.max(0) for one in sets], axis=0)
    floor, ceiling = np.asarray(bounds, dtype=np.float32).T  # as the draws are rounded
    low = np.where(least >= floor, np.maximum(low - margin, floor), low - margin)
    high = np.where(most <= ceiling, np.minimum(high + margin, ceiling), high + margin)
    return [(float(a), float(b)) for a, b in zip(low, high, strict=True)]


def _finish(grid: NDArray[Any], truth: Array | None) -> None:
    """Room above the histograms, small ticks, and the truth; grid holds (D, D) axes."""
    for i in range(len(grid)):
        top = max(float(heights.max()) for heights in _outlines(grid[i, i]))
        grid[i, i].set_ylim(0, 1.12 * top)
        for j in range(i + 1):
            grid[i, j].tick_params(labelsize=7.5, direction="in", length=3)
            if truth is not None:
                grid[i, j].axvline(truth[j], color=TRUTH, linewidth=1.0, linestyle="--")
            if truth is not None and i != j:
                grid[i, j].axhline(truth[i], color=TRUTH, linewidth=1.0, linestyle="--")


def _outlines(axes: Axes) -> list[Array]:
    """Heights of the histograms, whatever artist drew them."""
    lines = [np.asarray(line.get_ydata(), float) for line in axes.lines]
    steps = [np.asarray(patch.get_path().vertices)[:, 1] for patch in axes.patches]
    return [heights for heights in (*lines, *steps) if len(heights) > 2]


def _add_legend(figure: Figure, reference: bool, truth: bool, *, single: bool) -> None:
    """In the empty corner; above the panel where there is but one."""
    handles = [Line2D([], [], color=POSTERIOR, label="posterior")]
    if reference:
        handles.append(Line2D([], [], color=REFERENCE, label="reference sampler"))
    if truth:
        handles.append(Line2D([], [], color=TRUTH, linewidth=1.0, linestyle="--", label="truth"))
    figure.legend(
        handles=handles,
        loc="lower center" if single else "upper right",
        bbox_to_anchor=(0.55, 0.93) if single else (0.97, 0.96),
        ncols=len(handles) if single else 1,
        fontsize=9,
        columnspacing=1.0,
    )
