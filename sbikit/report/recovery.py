r"""How well posterior draws find held-out truths.

For truth t and n posterior draws with mean m and standard deviation s, write z = (m - t) / s. Under an
exact posterior

    E[z] = 0,   E[z^2] = (1 + 1/n)(n - 1)/(n - 3)  (Gaussian posterior),
    the rank of t among the draws is uniform on 0..n,
    E[(m - t)^2] = (1 + 1/n) E[s^2]                (any posterior).

Where a variable has many pixels, z, z^2 and the coverage are averaged over the pixels of an observation
first: observations are independent, pixels are not. Errors of bias and scatter are those under an exact
posterior, as those of the verdicts are: draws that are too wide make z scatter little, which must not make
a small bias look certain. There a draw may stand in for the truth, so its z among the other draws says how
much z scatters. The error of a field's coverage is that of the mean over observations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sbikit.report.arrays import Array
from sbikit.roles.validator import mean_and_error

# With fewer draws the ideal scatter's (n - 3) and a width from half of them mean little; with fewer
# observations their scatter does, on which every standard error rests.
FEWEST_DRAWS, FEWEST_OBSERVATIONS = 8, 4
# Draws an observation that stand in for its truth: all, unless that takes too long; of many pixels 8 will do
# for an error's second digit.
_FEWEST_STAND_INS, _NUMBERS = 8, 2**25
BINS = 8  # of widths: more resolve where a posterior fails, fewer have smaller error bars


@dataclass(frozen=True)
class Estimate:
    """A number, its standard error, and what it would be ideally (None: no ideal)."""

    value: float
    error: float
    ideal: float | None

    @property
    def offset(self) -> float | None:
        """Distance from the ideal in standard errors."""
        if self.ideal is None or self.error <= 0:
            return None
        return (self.value - self.ideal) / self.error


@dataclass(frozen=True)
class Recovery:
    """Held-out recovery of one scalar or of one channel of a field.

    Args:
        bias: mean z.
        scatter: root mean square z.
        coverage: share of truths inside the central interval of 68 %.
        width: posterior standard deviation over the scatter of the truths; 1 means nothing learnt.
    """

    bias: Estimate
    scatter: Estimate
    coverage: Estimate
    width: Estimate


def recovery(truth: Array, draws: Array) -> Recovery:
    """Judge draws of B observations.

    Args:
        truth: (B, P), with P pixels, or P = 1 for a scalar.
        draws: (n, B, P), n at least `FEWEST_DRAWS`, B at least `FEWEST_OBSERVATIONS`.
    """
    z = _offsets(truth, draws)
    ideal = math.sqrt(_ideal_square(len(draws)))
    bias_error, square_error = _null_errors(draws)
    return Recovery(
        bias=Estimate(float(z.mean()), bias_error, 0.0),
        scatter=Estimate(math.sqrt(float((z**2).mean())), square_error / (2 * ideal), ideal),
        coverage=_coverage(truth, draws),
        width=_width(truth, draws.std(0, ddof=1, dtype=np.float64)),
    )


def _offsets(truth: Array, draws: Array) -> Array:
    """z of truths (B, P) among draws (n, B, P), (B, P)."""
    mean, sd = draws.mean(0, dtype=np.float64), draws.std(0, ddof=1, dtype=np.float64)
    return np.asarray((mean - truth) / np.maximum(sd, np.finfo(np.float32).tiny))


def _ideal_square(n: int) -> float:
    """E[z^2] of n draws."""
    return (1 + 1 / n) * (n - 1) / (n - 3)


def _null_errors(draws: Array) -> tuple[float, float]:
    """Standard errors of mean z and mean z^2 under an exact posterior; draws stand in for truths."""
    n, observations = draws.shape[:2]
    count = min(n, max(_FEWEST_STAND_INS, _NUMBERS // draws.size))
    chosen = np.linspace(0, n - 1, count).round().astype(int)
    z = np.stack([_offsets(draws[j], np.delete(draws, j, 0)) for j in chosen])
    fewer = _ideal_square(n) / _ideal_square(n - 1)  # a stand-in has one draw less beside it
    bias = math.sqrt(fewer * float((z.mean(2) ** 2).mean()))
    square = fewer * float((z**2).mean(2).std())
    return bias / math.sqrt(observations), square / math.sqrt(observations)


def _coverage(truth: Array, draws: Array) -> Estimate:
    n, observations = len(draws), len(truth)
    rank = (draws < truth).sum(0)
    edge = round(0.16 * (n + 1))
    share = ((rank >= edge) & (rank <= n - edge)).mean(1)
    ideal = (n + 1 - 2 * edge) / (n + 1)
    value, error = mean_and_error(share)
    if truth.shape[1] == 1:
        error = math.sqrt(ideal * (1 - ideal) / observations)
    return Estimate(value, error, ideal)


def _width(truth: Array, sd: Array) -> Estimate:
    each = np.sqrt((sd**2).mean(1))
    spread = float(truth.std(dtype=np.float64))
    if spread == 0:
        return Estimate(0.0, 0.0, None)
    value, error = mean_and_error(each)
    relative = math.hypot(error / value if value else 0.0, 1 / math.sqrt(2 * (len(truth) - 1)))
    return Estimate(value / spread, value / spread * relative, None)


@dataclass(frozen=True)
class ErrorByWidth:
    """Actual error of the posterior mean against the error that the draws claim; each (K,)."""

    claimed: Array
    actual: Array
    error: Array


def error_by_width(truth: Array, draws: Array, *, bins: int = BINS) -> ErrorByWidth:
    """Root mean square error of the posterior mean in bins of posterior standard deviation.

    One half of the draws chooses the bin of a pixel and the other half is judged in it: with the
    same draws for both, pixels would enter a bin through the noise of their own estimate.

    Args:
        truth: (B, P).
        draws: (n, B, P), n at least `FEWEST_DRAWS`, B at least `FEWEST_OBSERVATIONS`.
        bins: quantile bins of the posterior standard deviation.
    """
    chooser, judged = draws[0::2], draws[1::2]
    width = chooser.std(0, ddof=1)
    variance = judged.var(0, ddof=1, dtype=np.float64)
    square = (judged.mean(0, dtype=np.float64) - truth) ** 2 / (1 + 1 / len(judged))
    label = np.searchsorted(np.quantile(width, np.linspace(0, 1, bins + 1)[1:-1]), width)
    rows = [_one_bin(square, variance, label == k) for k in range(bins) if (label == k).any()]
    claimed, actual, error = (np.array(column) for column in zip(*rows, strict=True))
    return ErrorByWidth(claimed, actual, error)


def _one_bin(square: Array, variance: Array, inside: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Claimed and actual error over the pixels inside, with the standard error between observations."""
    count, total = inside.sum(1), (square * inside).sum(1)
    mean = float(total.sum() / count.sum())
    used = max(int((count > 0).sum()), 2)
    spread = math.sqrt(float(((total - mean * count) ** 2).sum()) * used / (used - 1)) / float(count.sum())
    actual = math.sqrt(mean)
    return math.sqrt(float(variance[inside].mean())), actual, spread / (2 * actual) if actual else 0.0
