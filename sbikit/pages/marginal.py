"""One parameter's posterior in numbers, with their Monte-Carlo errors."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sbikit.pages.arrays import Array


@dataclass(frozen=True)
class Marginal:
    """One parameter's posterior: mean, standard deviation, 16 % and 84 % quantiles, number of draws."""

    mean: float
    sd: float
    low: float
    high: float
    draws: int

    @property
    def mean_error(self) -> float:
        """Monte-Carlo standard error of the mean for independent draws."""
        return self.sd / math.sqrt(self.draws)

    @property
    def sd_error(self) -> float:
        """Monte-Carlo standard error of the standard deviation, for a Gaussian."""
        return self.sd / math.sqrt(2 * max(self.draws - 1, 1))


def marginal(draws: Array) -> Marginal:
    """Summary of draws (n,), n at least 2."""
    low, high = np.quantile(draws, [0.16, 0.84])
    wide = draws.astype(np.float64)
    return Marginal(float(wide.mean()), float(wide.std(ddof=1)), float(low), float(high), len(draws))
