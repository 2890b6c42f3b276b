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
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from sbikit.pages.arrays import Array
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


class RecoveryTally:
    """Takes in one variable of many observations, block by block, and judges it once it has them all.

    Args:
        n: draws an observation, at least `FEWEST_DRAWS`.
        numbers: n B P, how many numbers there will be of B observations with P pixels (1 for a scalar).
    """

    def __init__(self, n: int, numbers: int) -> None:
        self._n = n
        count = min(n, max(_FEWEST_STAND_INS, _NUMBERS // numbers))
        self._stand_ins = np.linspace(0, n - 1, count).round().astype(int)
        self._rows: list[_Seen] = []
        self._truth: list[Array] = []

    def take(self, truth: Array, draws: Array) -> None:
        """Take in b observations: truth (b, P), draws (n, b, P)."""
        z = _offsets(truth, draws)
        # Under an exact posterior a draw may stand in for the truth.
        null = np.stack([_offsets(draws[j], np.delete(draws, j, 0)) for j in self._stand_ins])
        rank, edge = (draws < truth).sum(0), self._edge
        sd = draws.std(0, ddof=1, dtype=np.float64)
        self._truth.append(truth)
        self._rows.append(
            _Seen(
                z=z.mean(1),
                square=(z**2).mean(1),
                null=null.mean(2),
                null_square=(null**2).mean(2),
                inside=((rank >= edge) & (rank <= self._n - edge)).mean(1),
                width=np.sqrt((sd**2).mean(1)),
            )
        )

    def found(self) -> Recovery:
        """The judgement, of at least `FEWEST_OBSERVATIONS` observations."""
        seen, truth = _Seen.joined(self._rows), np.concatenate(self._truth)
        observations = len(truth)
        ideal = math.sqrt(_ideal_square(self._n))
        fewer = _ideal_square(self._n) / _ideal_square(self._n - 1)  # a stand-in has one draw less beside it
        bias_error = math.sqrt(fewer * float((seen.null**2).mean()) / observations)
        square_error = fewer * float(seen.null_square.std()) / math.sqrt(observations)
        return Recovery(
            bias=Estimate(float(seen.z.mean()), bias_error, 0.0),
            scatter=Estimate(math.sqrt(float(seen.square.mean())), square_error / (2 * ideal), ideal),
            coverage=self._coverage(seen.inside, scalar=truth.shape[1] == 1),
            width=_width(truth, seen.width),
        )

    @property
    def _edge(self) -> int:
        return round(0.16 * (self._n + 1))

    def _coverage(self, inside: Array, *, scalar: bool) -> Estimate:
        ideal = (self._n + 1 - 2 * self._edge) / (self._n + 1)
        value, error = mean_and_error(inside)
        if scalar:
            error = math.sqrt(ideal * (1 - ideal) / len(inside))
        return Estimate(value, error, ideal)


@dataclass(frozen=True)
class _Seen:
    """What is kept of b observations: means over the pixels of z and z^2, each (b,), of those with draws in
    the place of the truth, (stand-ins, b), of what is inside the interval, and the rms width, (b,).
    """

    z: Array
    square: Array
    null: Array
    null_square: Array
    inside: Array
    width: Array

    @staticmethod
    def joined(parts: Sequence[_Seen]) -> _Seen:
        """All of it."""
        return _Seen(
            *(np.concatenate([getattr(part, one.name) for part in parts], -1) for one in fields(_Seen))
        )


def _offsets(truth: Array, draws: Array) -> Array:
    """z of truths (b, P) among draws (n, b, P), (b, P)."""
    mean, sd = draws.mean(0, dtype=np.float64), draws.std(0, ddof=1, dtype=np.float64)
    return np.asarray((mean - truth) / np.maximum(sd, np.finfo(np.float32).tiny))


def _ideal_square(n: int) -> float:
    """E[z^2] of n draws."""
    return (1 + 1 / n) * (n - 1) / (n - 3)


def _width(truth: Array, each: Array) -> Estimate:
    """Of truths (B, P) and the widths (B,) of their posteriors."""
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


class ErrorTally:
    """Takes in one field channel of many observations, block by block.

    One half of the draws chooses the bin of a pixel and the other half is judged in it: with the
    same draws for both, pixels would enter a bin through the noise of their own estimate.
    """

    def __init__(self) -> None:
        self._rows: list[tuple[Array, Array, Array]] = []

    def take(self, truth: Array, draws: Array) -> None:
        """Take in b observations: truth (b, P), draws (n, b, P), n at least `FEWEST_DRAWS`."""
        chooser, judged = draws[0::2], draws[1::2]
        width = chooser.std(0, ddof=1)
        variance = judged.var(0, ddof=1, dtype=np.float64)
        square = (judged.mean(0, dtype=np.float64) - truth) ** 2 / (1 + 1 / len(judged))
        self._rows.append((width, square, variance))

    def found(self, *, bins: int = BINS) -> ErrorByWidth:
        """Errors in so many quantile bins of the posterior standard deviation."""
        width, square, variance = (np.concatenate(rows) for rows in zip(*self._rows, strict=True))
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
