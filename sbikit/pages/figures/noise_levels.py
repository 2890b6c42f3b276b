"""Errors of a denoiser by noise level, as shares of what would be left if data told nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from sbikit.pages.arrays import Array
from sbikit.pages.figures.panels import THIRD, panels, tidy
from sbikit.pages.figures.style import POSTERIOR, TRUTH, WIDE, FigureLayout, styled


@dataclass(frozen=True)
class LevelCurve:
    """One quantity by noise level.

    Args:
        title: of its panel.
        sigma: (K,) levels, in units of the prior's standard deviations.
        error, error_se: (K,) its squared error, in units of the prior's variances, with standard errors.
        beside, beside_se: (K,) what the error is held against.
        beside_label: what that is.
    """

    title: str
    sigma: Array
    error: Array
    error_se: Array
    beside: Array
    beside_se: Array
    beside_label: str


@styled
def noise_level_plot(curves: Sequence[LevelCurve], layout: FigureLayout) -> Figure:
    """Each squared error beside what it is held against; bars are standard errors.

    Both are divided by sigma^2 / (1 + sigma^2), the variance that a level leaves of a prior of variance 1, so
    that a line of one means nothing is learned from data, and all levels are seen on one axis.
    """
    columns = 3 if layout is WIDE else 1
    figure, made = panels(len(curves), layout, height=0.72, columns=columns, widest=THIRD)
    for axes, curve in zip(made, curves, strict=True):
        unit = curve.sigma**2 / (1.0 + curve.sigma**2)
        beside = axes.errorbar(
            curve.sigma, curve.beside / unit, curve.beside_se / unit, color=TRUTH, fmt="s--", ms=3
        )
        error = axes.errorbar(
            curve.sigma, curve.error / unit, curve.error_se / unit, color=POSTERIOR, fmt="o-", ms=4
        )
        # What a denoiser implies at high levels may have errors that would hide all else.
        top = max(1.0, float(np.max((curve.error + curve.error_se) / unit)))
        axes.set(xscale="log", ylim=(0.0, 1.1 * top), title=curve.title)
        axes.set(xlabel="noise level [prior sd]", ylabel="share of what noise leaves")
        axes.legend([error, beside], ["squared error", curve.beside_label], loc="lower left")
        tidy(axes)
    return figure
