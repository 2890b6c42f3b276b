"""What the tests would have seen: their power against wrong posteriors of one parameter, computed exactly.

Where the posterior is normal and the draws N(0, 1), a truth t ~ N(delta, s^2) means draws that are off by
delta of their standard deviations, and 1/s as wide as they should be. Its rank among n draws is
Binomial(n, Phi(t)), given t; the integral over t gives the chances of the ranks, their convolution the
chances of an alarm.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import gammaln, log_ndtr
from scipy.stats import norm

from sbikit_calibration.ranks.scores import normal_scores, rank_tests

Floats = NDArray[np.float64]

SEEN = 0.9  # share of cases in which an alarm is raised
# The integral over the truth: steps of .04 sd up to 8 sd, where the normal density is 5e-15.
_NODES, _WIDEST = 400, 8.0
_SMALL = 0.01  # posterior sd: a shift over which the mean score is linear
_FARTHEST = (
    3.0  # a shift in posterior sd, and a logarithm of a factor on the width (20), that all would call wrong
)


@dataclass(frozen=True)
class Reach:
    """Least departures of one parameter that are seen in nine of ten cases; None where none is.

    Args:
        shift: in posterior standard deviations.
        narrow: factor on the posterior standard deviation, below 1.
        wide: factor on it, above 1.
    """

    shift: float | None
    narrow: float | None
    wide: float | None

    def of_a_parameter(self) -> tuple[str, ...]:
        """What would have been seen of one parameter, in words."""
        widths = [f"{100 * (1 - self.narrow):.0f} % too narrow"] if self.narrow is not None else []
        widths += [f"{100 * (self.wide - 1):.0f} % too wide"] if self.wide is not None else []
        shift = [f"a shift of one parameter by {self.shift:.2f} of its posterior sd"] if self.shift else []
        return (*shift, *([f"a posterior of one parameter that is {' or '.join(widths)}"] if widths else []))

    def of_a_map(self) -> tuple[str, ...]:
        """What would have been seen of one statistic of a map, in words."""
        if not self.shift:
            return ()
        return (
            f"a shift of one map statistic (variance, skewness, peaks, band power, ...) by {self.shift:.2f} "
            "of its posterior sd",
        )


def rank_chances(draws: int, shift: float = 0.0, scale: float = 1.0) -> Floats:
    """Chances of the ranks 0..n of a truth N(shift, scale^2) among n draws N(0, 1), (n + 1,)."""
    node = np.linspace(-_WIDEST, _WIDEST, _NODES + 1)
    weight = norm.pdf(node)
    truth = shift + scale * node
    k = np.arange(draws + 1)[:, None]
    ways = gammaln(draws + 1) - gammaln(k + 1) - gammaln(draws - k + 1)
    chances = np.exp(ways + k * log_ndtr(truth) + (draws - k) * log_ndtr(-truth)) @ weight
    return np.asarray(chances / chances.sum())


@lru_cache(maxsize=8)
def unit(draws: int) -> float:
    """What a shift of the truth by one posterior sd adds to the mean normal score, for small shifts."""
    return float(normal_scores(draws) @ rank_chances(draws, _SMALL)) / _SMALL


@lru_cache(maxsize=8)
def reach(draws: int, observations: int, alpha: float) -> Reach:
    """The least departures that are seen.

    Args:
        draws: n, an observation.
        observations: B.
        alpha: the p-value at which one test raises an alarm.
    """
    test = rank_tests(draws, observations)

    def width(scale: float) -> float:
        chances = rank_chances(draws, 0.0, scale)
        return max(one.power(chances, alpha) for one in (test.spread, test.outliers))

    narrow = _least(lambda log: width(math.exp(log)))
    wide = _least(lambda log: width(math.exp(-log)))
    return Reach(
        _least(lambda delta: test.shift.power(rank_chances(draws, delta), alpha)),
        None if narrow is None else math.exp(-narrow),
        None if wide is None else math.exp(wide),
    )


def _least(power: Callable[[float], float]) -> float | None:
    """Where a power that rises from 0 on reaches `SEEN`; None where it does not."""
    if power(_FARTHEST) < SEEN:
        return None
    return float(brentq(lambda x: power(x) - SEEN, 0.0, _FARTHEST, xtol=1e-3))
