"""The difference of the ranks' distribution from uniformity, with a band that holds all of it at once.

The share of B ranks that are at most j is Binomial(B, (j + 1)/(n + 1)) / B at each level j, but a curve has
many levels. The band of Säilynoja, Bürkner and Vehtari (arXiv:2110.12012) has one probability gamma at every
level, so small that 95 % of the curves of uniform ranks lie wholly inside; gamma is found by simulation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

INSIDE = 0.95  # of the curves of an exact posterior
_LEVELS = 101  # points of a curve where there are more draws: one a per cent, finer than a plot shows
_SIMULATED = 2000  # curves that fix gamma: their share inside is then known to .5 %


@dataclass(frozen=True, eq=False)
class Band:
    """The band around no difference.

    Args:
        levels: ranks j that are drawn, (K,), the last one n.
        x: (j + 1)/(n + 1), (K,).
        low, high: the band of the difference from x, (K,).
    """

    levels: Integers
    x: Floats
    low: Floats
    high: Floats

    def difference(self, ranks: Integers) -> Floats:
        """Share of ranks (B,) that are at most j, minus x, (K,)."""
        return np.searchsorted(np.sort(ranks), self.levels, side="right") / len(ranks) - self.x


@lru_cache(maxsize=8)
def band(draws: int, observations: int) -> Band:
    """The band for ranks among `draws` draws of `observations` observations."""
    levels = np.unique(np.linspace(0, draws, min(draws + 1, _LEVELS)).round().astype(np.int64))
    x = (levels + 1) / (draws + 1)
    gamma = _gamma(levels, draws, observations)
    low = binom.ppf(gamma / 2, observations, x) / observations - x
    high = binom.ppf(1 - gamma / 2, observations, x) / observations - x
    return Band(levels, x, np.asarray(low), np.asarray(high))


def _gamma(levels: Integers, draws: int, observations: int) -> float:
    """The probability outside at one level with which 5 % of curves leave the band somewhere."""
    rng = np.random.default_rng(0)  # a constant of (n, B), the same in every run
    x = (levels + 1) / (draws + 1)
    worst = np.empty(_SIMULATED)
    for i in range(_SIMULATED):
        counts = np.searchsorted(np.sort(rng.integers(0, draws + 1, observations)), levels, side="right")
        tail = np.minimum(binom.cdf(counts, observations, x), binom.sf(counts - 1, observations, x))
        worst[i] = 2.0 * tail.min()
    return float(min(np.quantile(worst, 1.0 - INSIDE), 1.0))
