"""Losses during training, as logged and smoothed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from sbikit.pages.arrays import Array
from sbikit.pages.figures.labels import plain_log_ticks
from sbikit.pages.figures.panels import panels, tidy
from sbikit.pages.figures.style import POSTERIOR, REFERENCE, WIDE, FigureLayout, styled

_COLOURS = (POSTERIOR, REFERENCE, "#3b8a5a", "#8a4fa3", "#9a7b1f")
_LOGARITHMIC = 4.0  # ratio of the largest to the smallest loss from which a linear axis hides the end


@styled
def training_plot(x_label: str, curves: Mapping[str, tuple[Array, Array]], layout: FigureLayout) -> Figure:
    """Losses during training.

    Args:
        x_label: what the abscissa is.
        curves: name -> (abscissa, loss), each (K,) with a rising abscissa; a long one is also drawn smoothed.
        layout: the layout.
    """
    figure, (axes,) = panels(1, layout, height=0.4 if layout is WIDE else 0.75)
    for i, (name, (at, values)) in enumerate(curves.items()):
        colour = _COLOURS[i % len(_COLOURS)]
        smooth = _running_mean(values)
        axes.plot(at, values, color=colour, alpha=0.3 if smooth is not None else 1.0, lw=1.0)
        axes.plot(at, values if smooth is None else smooth, color=colour, label=name.replace("_", " "))
    first, last = min(at[0] for at, _ in curves.values()), max(at[-1] for at, _ in curves.values())
    axes.set(xlabel=x_label, ylabel="loss", xlim=(float(first), float(last)))
    if all(values.min() > 0 for _, values in curves.values()) and _spread(curves) > _LOGARITHMIC:
        axes.set_yscale("log")
        plain_log_ticks(axes.yaxis)
    axes.xaxis.set_major_locator(MaxNLocator(8 if layout is WIDE else 4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.legend(loc="upper right")
    tidy(axes)
    return figure


def _spread(curves: Mapping[str, tuple[Array, Array]]) -> float:
    return max(float(values.max() / values.min()) for _, values in curves.values())


def _running_mean(values: Array) -> Array | None:
    """Mean over a fortieth of the record on either side; None where it is too short to need one."""
    half = len(values) // 40
    if half < 1:
        return None
    total = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    start = np.maximum(np.arange(len(values)) - half, 0)
    stop = np.minimum(np.arange(len(values)) + half + 1, len(values))
    return np.asarray((total[stop] - total[start]) / (stop - start))
