"""Curves of validators, each with its band and its ideal."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import AutoMinorLocator

from sbikit.pages.figures.labels import wrapped
from sbikit.pages.figures.panels import THIRD, panels, tidy
from sbikit.pages.figures.style import MUTED, POSTERIOR, TRUTH, WIDE, FigureLayout, styled
from sbikit.roles.validator import Curve


@styled
def calibration_curves(curves: Sequence[Curve], titles: Sequence[str], layout: FigureLayout) -> Figure:
    """Every curve with its band and its ideal."""
    columns = 3 if layout is WIDE else 1
    figure, made = panels(len(curves), layout, height=0.88, columns=columns, widest=THIRD)
    for axes, curve, title in zip(made, curves, titles, strict=True):
        axes.plot(curve.x, curve.ideal, color=TRUTH, ls="--", lw=1.1, label="ideal")
        around = POSTERIOR if curve.band == "measured" else MUTED
        axes.fill_between(curve.x, curve.low, curve.high, color=around, alpha=0.22, lw=0)
        axes.plot(curve.x, curve.y, color=POSTERIOR, label="measured")
        axes.set(xlabel=wrapped(curve.x_label), ylabel=wrapped(curve.y_label), title=title)
        axes.xaxis.set_minor_locator(AutoMinorLocator(2))
        tidy(axes)
    made[0].legend(loc="best")
    return figure
