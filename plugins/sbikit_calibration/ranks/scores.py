"""Exact tests of ranks against uniformity, one for each way to be wrong.

Under an exact posterior the rank r of the truth among n draws is uniform on 0..n, and the ranks of B
observations are independent. A test is a sum of scores s(r_b) over the observations. With the normal scores
z(r) = Phi^-1((r + 1/2) / (n + 1)),

    shift     s = z              sees draws that lie too low or too high (van der Waerden 1952),
    spread    s = z^2            sees draws that are too narrow or too wide (Klotz 1962),
    outliers  s = [r is 0 or n]  sees the few observations that are far off; of a distance s = [r is n].

For a normal posterior and many draws the first two are as powerful as the best tests of mean and variance
(doi:10.1214/aoms/1177704576). Scores are rounded to whole numbers, so that their sum has a null
distribution that is computed exactly: the B-fold convolution of the distribution of one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# The sum of all observations has at most so many values: a transform takes 2 ms.
_LONGEST = 2**16
_MOST_LEVELS = 4096  # of one score; with 256 observations there are 256, which round z by .01


@dataclass(frozen=True, eq=False)
class Score:
    """One test.

    Args:
        name: what it is called in a report.
        levels: the score of every rank, whole numbers from 0 on, (n + 1,).
        observations: B, of which it is the sum.
    """

    name: str
    levels: Integers
    observations: int

    def total(self, ranks: Integers) -> int:
        """The sum of the scores of ranks (B,)."""
        return int(self.levels[ranks].sum())

    def p_value(self, total: int) -> float:
        """Twice the smaller tail of the null up to and including `total`, at most 1."""
        return min(1.0, 2.0 * min(float(self._lower[total]), float(self._upper[total])))

    def distribution(self, chances: Floats) -> Floats:
        """Probabilities of every total where the ranks have these chances (n + 1,)."""
        one = np.bincount(self.levels, weights=chances)
        length = self.observations * (len(one) - 1) + 1
        size = 1 << (length - 1).bit_length()
        found = np.fft.irfft(np.fft.rfft(one, size) ** self.observations, size)[:length]
        return np.clip(found, 0.0, None)

    def power(self, chances: Floats, alpha: float) -> float:
        """Probability of a p-value of at most alpha where the ranks have these chances (n + 1,)."""
        alarm = 2.0 * np.minimum(self._lower, self._upper) <= alpha
        return float(self.distribution(chances)[alarm].sum())

    @cached_property
    def _null(self) -> Floats:
        return self.distribution(np.full(len(self.levels), 1.0 / len(self.levels)))

    @cached_property
    def _lower(self) -> Floats:
        return np.minimum(np.cumsum(self._null), 1.0)

    @cached_property
    def _upper(self) -> Floats:
        return np.minimum(np.cumsum(self._null[::-1])[::-1], 1.0)


def normal_scores(draws: int) -> Floats:
    """z(r) of every rank, (n + 1,)."""
    return np.asarray(ndtri((np.arange(draws + 1) + 0.5) / (draws + 1)), np.float64)


@dataclass(frozen=True, eq=False)
class RankTests:
    """The tests of ranks among n draws of B observations; `farthest` is that of outliers for a distance."""

    shift: Score
    spread: Score
    outliers: Score
    farthest: Score


@lru_cache(maxsize=8)
def rank_tests(draws: int, observations: int) -> RankTests:
    """The tests for ranks among n draws of B observations."""
    z = normal_scores(draws)
    steps = max(2, min(_MOST_LEVELS, _LONGEST // observations))
    last = np.zeros(draws + 1, np.int64)
    last[-1] = 1
    ends = last.copy()
    ends[0] = 1
    return RankTests(
        Score("shift", _whole(z, steps), observations),
        Score("spread", _whole(z**2, steps), observations),
        Score("outliers", ends, observations),
        Score("outliers", last, observations),
    )


def _whole(values: Floats, steps: int) -> Integers:
    """Values rounded to `steps` equal steps between the smallest and the largest, from 0 on."""
    low, high = float(values.min()), float(values.max())
    if math.isclose(low, high):
        return np.zeros(len(values), np.int64)
    return np.rint((values - low) * (steps / (high - low))).astype(np.int64)
