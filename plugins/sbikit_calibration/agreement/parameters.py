"""How two sets of draws of a vector differ, for one observation.

A parameter's offset is (mean - mean') / s with s the standard deviation of all exact draws; the ratio of
standard deviations is taken by its logarithm; the 1-Wasserstein distance of two sets of n draws is the mean
distance of their order statistics, here in units of s (Vallender 1974, doi:10.1137/1118101).

The Kullback-Leibler divergence of all parameters together, the mean of KL(exact || judged) and KL(judged ||
exact) (half of Jeffreys' divergence), is estimated from nearest neighbours (Wang, Kulkarni and Verdu 2009,
doi:10.1109/TIT.2009.2016060, their estimator of reduced bias). For draws x_i, i = 1..n, of the one and y_j,
j = 1..m, of the other, let e_i be the larger of the distances from x_i to the nearest other x and to the
nearest y, and l_i and k_i the numbers of other x and of y within e_i:

    KL = 1 / n sum_i [psi(l_i) - psi(k_i)] + log(m / (n - 1)).

It scatters around 0 for exact draws and falls short of the truth, by more in more dimensions and where the
second set is the narrower one: in one direction alone it hardly sees draws that are too narrow. So it is
the mean of both. For normal draws, 500 a side, it gives .12 where .15 is exact (3 parameters, draws .8
times as wide), .045 where .06 is exact (the same moved by .2), .12 where .30 is exact (6 parameters, .8
times as wide), each to .01. Divergences do not depend on coordinates, their estimates do: the draws are
whitened with the covariance of the exact ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree
from scipy.special import digamma

from sbikit_calibration.agreement.trio import Floats, Trio

TINY = 1e-300  # in the place of zero in a logarithm or divisor, near the smallest number in double precision
_DEGENERATE = 1e-12  # of the largest eigenvalue of a correlation matrix, below which one is rounding
_ABOVE_ROUNDING = 1 + 1e-12  # on a radius, so that the neighbour that fixed it lies inside


@dataclass(frozen=True)
class _Marginals:
    """Means (D,), standard deviations (D,) and sorted draws (n, D)."""

    mean: Floats
    sd: Floats
    ordered: Floats


def _marginals(draws: Floats) -> _Marginals:
    return _Marginals(draws.mean(0), draws.std(0, ddof=1), np.sort(draws, axis=0))


def marginal_numbers(trio: Trio[Floats]) -> dict[str, Floats]:
    """Numbers of every scalar and their floors, each (2, D), for draws (n, D).

    `mean_offset` is a square and `sd_ratio` a logarithm.
    """
    unit = pooled_sd(trio)
    found = trio.map(_marginals)
    return {
        "mean_offset": found.compare(lambda a, b: ((a.mean - b.mean) / unit) ** 2),
        "mean_shift": found.compare(lambda a, b: (a.mean - b.mean) / unit),
        "sd_ratio": found.compare(lambda a, b: np.log(np.maximum(a.sd, TINY) / np.maximum(b.sd, TINY))),
        "w1": found.compare(lambda a, b: np.abs(a.ordered - b.ordered).mean(0) / unit),
    }


def offsets(trio: Trio[Floats]) -> Floats:
    """Differences of means in exact standard deviations, (3, D): draws from each half, half from half."""
    unit = pooled_sd(trio)
    mean = trio.map(lambda draws: draws.mean(0))
    return np.stack([mean.draws - mean.first, mean.draws - mean.second, mean.first - mean.second]) / unit


def pooled_sd(trio: Trio[Floats]) -> Floats:
    """Standard deviation (D,) of all exact draws; 1 where they do not scatter."""
    sd = np.concatenate([trio.first, trio.second]).std(0, ddof=1)
    return np.where(sd > 0, sd, 1.0)


def whitened(trio: Trio[Floats]) -> Trio[Floats]:
    """All draws (n, D) in coordinates in which the exact ones have mean 0 and unit covariance."""
    exact = np.concatenate([trio.first, trio.second])
    mean, sd = exact.mean(0), pooled_sd(trio)
    eigenvalues, basis = np.linalg.eigh(np.atleast_2d(np.cov((exact - mean) / sd, rowvar=False)))
    rotate = basis / np.sqrt(np.maximum(eigenvalues, _DEGENERATE * eigenvalues.max() + TINY))
    return trio.map(lambda draws: (draws - mean) / sd @ rotate)


def divergence(first: Floats, second: Floats) -> Floats:
    """Estimate of half of Jeffreys' divergence in nats, shape (), for draws (m, d) and (n, d)."""
    a, b = cKDTree(first), cKDTree(second)
    return np.asarray(0.5 * (_one_way(a, b) + _one_way(b, a)))


def _one_way(x: cKDTree, y: cKDTree) -> float:
    """Estimate of KL(x || y)."""
    radius = np.maximum(x.query(x.data, [2])[0], y.query(x.data, [1])[0])[:, 0] * _ABOVE_ROUNDING
    among = x.query_ball_point(x.data, radius, return_length=True) - 1
    others = y.query_ball_point(x.data, radius, return_length=True)
    return float(np.mean(digamma(among) - digamma(others)) + np.log(y.n / (x.n - 1)))
