"""Posterior draws of held-out simulations against the truths: parameters, and errors of fields."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sbikit.pages.arrays import Array
from sbikit.pages.figures.labels import with_unit
from sbikit.pages.figures.panels import THIRD, equality, panels, tidy
from sbikit.pages.figures.style import POSTERIOR, WIDE, FigureLayout, styled
from sbikit.pages.recovery import ErrorByWidth

_BARS = "#8fb1d6"  # the posterior's blue, lighter, so that dots are seen where bars overlap


@styled
def recovery_plot(
    labels: Sequence[str], units: Sequence[str], truth: Array, draws: Array, layout: FigureLayout
) -> Figure:
    """Posterior mean and 68 % interval against truth for held-out observations.

    Args:
        labels: D names as matplotlib sets them.
        units: D units.
        truth: (B, D).
        draws: (n, B, D).
        layout: the layout.
    """
    columns = 3 if layout is WIDE else 1
    figure, made = panels(len(labels), layout, height=0.92, columns=columns, widest=THIRD)
    mean, (low, high) = draws.mean(0), np.quantile(draws, [0.16, 0.84], axis=0)
    for i, (axes, label, unit) in enumerate(zip(made, labels, units, strict=True)):
        true, inferred = truth[:, i], mean[:, i]
        equality(axes, np.concatenate([true, inferred]))
        axes.vlines(true, low[:, i], high[:, i], colors=_BARS, linewidth=0.8, zorder=3)
        axes.plot(true, inferred, "o", color=POSTERIOR, markersize=3, zorder=3)
        axes.set_xlabel(with_unit(f"true {label}", unit))
        axes.set_ylabel(with_unit(f"inferred {label}", unit))
        tidy(axes)
    return figure


@styled
def error_plot(
    titles: Sequence[str], units: Sequence[str], found: Sequence[ErrorByWidth], layout: FigureLayout
) -> Figure:
    """Actual error of the posterior mean against the error that the draws claim, a panel a field channel."""
    columns = 3 if layout is WIDE else 1
    figure, made = panels(len(found), layout, height=0.9, columns=columns, widest=THIRD)
    for axes, title, unit, one in zip(made, titles, units, found, strict=True):
        # Claimed errors that hardly differ get 15 % of room, lest noise alone fill the panel.
        equality(axes, np.concatenate([0.85 * one.claimed, 1.15 * one.claimed, one.actual]), square=True)
        axes.errorbar(one.claimed, one.actual, one.error, fmt="o", color=POSTERIOR, markersize=4, capsize=2)
        axes.set_title(title)
        axes.set_xlabel(with_unit("posterior sd", unit))
        axes.set_ylabel(with_unit("rms error of the mean", unit))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        tidy(axes)
    return figure
