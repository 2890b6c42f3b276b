"""Where in the space of the parameters draws fail: the share of them along each parameter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from sbikit.pages.arrays import Array
from sbikit.pages.figures.labels import with_unit
from sbikit.pages.figures.panels import THIRD, panels, tidy
from sbikit.pages.figures.style import POSTERIOR, TRUTH, WIDE, FigureLayout, styled


@dataclass(frozen=True)
class Along:
    """Failing draws along one parameter.

    Args:
        label: its name as matplotlib sets it.
        unit: its unit.
        edges: bounds of the bins, (K + 1,).
        tried, failed: numbers of draws, (K,).
    """

    label: str
    unit: str
    edges: Array
    tried: Array
    failed: Array


@styled
def failing_plot(parameters: Sequence[Along], layout: FigureLayout) -> Figure:
    """Share of draws that failed, with one standard error, a panel a parameter."""
    columns = 3 if layout is WIDE else 1
    figure, made = panels(len(parameters), layout, height=0.75, columns=columns, widest=THIRD)
    overall = float(parameters[0].failed.sum() / max(parameters[0].tried.sum(), 1))
    for axes, one in zip(made, parameters, strict=True):
        bounds, (share, error) = one.edges, shares(one.tried, one.failed)
        axes.axhline(overall, color=TRUTH, ls="--", lw=1.0, label="all draws")
        axes.stairs(share, bounds, color=POSTERIOR, fill=True, alpha=0.25)
        axes.stairs(share, bounds, color=POSTERIOR, lw=1.4, label="in the bin")
        centres = 0.5 * (bounds[1:] + bounds[:-1])
        axes.errorbar(centres, share, error, fmt="none", ecolor=POSTERIOR, elinewidth=1.0)
        axes.set(
            xlim=(bounds[0], bounds[-1]), xlabel=with_unit(one.label, one.unit), ylabel="draws that fail"
        )
        axes.set_ylim(0.0, max(1.15 * float((share + error).max()), 1e-3))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
        tidy(axes)
    made[0].legend(loc="best")
    return figure


def shares(tried: Array, failed: Array) -> tuple[Array, Array]:
    """Share that failed and its standard error, which is that of one failure where none or all did.

    Of few draws more may fail than were to be expected in a bin; no more than all of them do.
    """
    n = np.maximum(tried, 1)
    share = np.minimum(failed / n, 1.0)
    inside = np.clip(share, 1.0 / n, np.maximum(1.0 - 1.0 / n, 1.0 / n))
    return np.asarray(share), np.asarray(np.sqrt(inside * np.abs(1.0 - inside) / n))
