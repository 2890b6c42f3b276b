"""Figures of draws beside exact ones and beside the truth, each with its standard error over observations.

Exact draws of an observation have two independent halves; what these differ by is the floor. Arrays are over
R observations first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sbikit import mean_and_error

Floats = NDArray[np.float64]
QUANTILES = (0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999)


@dataclass(frozen=True)
class Measured:
    """A figure with its standard error, and its floor with that of its own."""

    value: float
    error: float
    floor: float | None = None
    floor_error: float | None = None


def offset_beyond_floor(offsets: Floats, log_ratios: Floats, draws: int) -> Measured:
    """The rms offset of means beyond what as many exact draws would have, in exact posterior sd.

    (d - e)^2 of the judged mean d and the mean e of all exact draws, whose halves have the means a and b, has
    the expectation offset^2 + sd^2 / n + var e, and (a - b)^2 / 4 has var e, however correlated chains are.
    Where the sum of the first is the smaller one by chance the value is 0; the error is how much the square
    may be larger by.

    Args:
        offsets: d - a, d - b and a - b, (R, 3).
        log_ratios: of the judged sd over the exact one, (R,).
        draws: n, independent of each other.
    """
    square = offsets[:, :2].mean(1) ** 2
    floor = np.exp(2.0 * log_ratios) / draws + offsets[:, 2] ** 2 / 4.0
    mean, error = mean_and_error(square - floor)
    least, least_error = mean_and_error(floor)
    value = math.sqrt(max(mean, 0.0))
    root = math.sqrt(least)
    return Measured(value, math.sqrt(max(mean, 0.0) + error) - value, root, least_error / (2.0 * root))


def coherence_shift(correlations: Floats) -> Measured:
    """How much larger a correlation is in the judged draws than in exact ones, its mean.

    Args:
        correlations: in the judged draws and in both halves of the exact ones, (R, 3).
    """
    judged, first, second = correlations.T
    return _beside(judged - 0.5 * (first + second), first - second)


def coherence_rms(correlations: Floats) -> Measured:
    """The rms over pairs of these means; its floor is what their errors alone would make of it.

    Args:
        correlations: (R, 3, *pairs).
    """
    shift = correlations[:, 0] - correlations[:, 1:].mean(1)
    flat = shift.reshape(len(shift), -1)
    means, errors = flat.mean(0), flat.std(0, ddof=1) / math.sqrt(len(flat))
    rms, floor = (float(np.sqrt(np.mean(x**2))) for x in (means, errors))
    # By the delta method, as if the pairs were independent, with the floor's part of the square taken out.
    error = float(np.sqrt(np.sum((means * errors) ** 2))) / (len(means) * max(rms, floor))
    return Measured(rms, error, floor)


def quantile_shifts(judged: NDArray[np.floating], exact: NDArray[np.floating]) -> Floats:
    """Shifts of the one-point quantiles over pixels and draws, and between the halves of the exact draws.

    Args:
        judged, exact: of one observation and channel, (n, *grid) and (2 n, *grid).

    Returns:
        (2, len(QUANTILES)), in standard deviations of the exact pixels.
    """
    half = len(exact) // 2
    sd = float(exact.std(dtype=np.float64)) or 1.0
    own, whole, first, second = (
        np.quantile(x, QUANTILES) for x in (judged, exact, exact[:half], exact[half:])
    )
    return np.stack([own - whole, first - second]) / sd


def log_variance_ratios(
    judged: NDArray[np.floating], exact: NDArray[np.floating], parts: Sequence[NDArray[np.bool_] | None]
) -> Floats:
    """Logarithms of variances over the exact ones, and of those of the halves of the exact draws.

    Args:
        judged, exact: of one observation and channel, (n, *grid) and (2 n, *grid).
        parts: pixels of which the mean variance is taken; None: the variance of the mean of the map.

    Returns:
        (2, len(parts)).
    """
    half = len(exact) // 2

    def variances(maps: NDArray[np.floating]) -> Floats:
        mean = maps.mean(tuple(range(1, maps.ndim)), dtype=np.float64).var(ddof=1)
        pixels = maps.var(0, ddof=1, dtype=np.float64)
        return np.array([mean if part is None else pixels[part].mean() for part in parts])

    own, whole, first, second = (np.log(variances(x)) for x in (judged, exact, exact[:half], exact[half:]))
    return np.stack([own - whole, first - second])


def ratio_of_variances(logs: Floats) -> Measured:
    """The geometric mean of ratios over observations, of logarithms (R, 2)."""
    (log, error), (floor, floor_error) = mean_and_error(logs[:, 0]), mean_and_error(logs[:, 1])
    return Measured(math.exp(log), math.exp(log) * error, math.exp(floor), math.exp(floor) * floor_error)


def quantile_shift(shifts: Floats) -> Measured:
    """Their mean over observations, (R, 2)."""
    return _beside(shifts[:, 0], shifts[:, 1])


def ratio_of_means(a: Sequence[float] | Floats, b: Sequence[float] | Floats) -> Measured:
    """The mean of a over the mean of b, (R,) each, with its error by the delta method."""
    above, below = np.asarray(a, np.float64), np.asarray(b, np.float64)
    ratio = float(above.mean() / below.mean())
    _, error = mean_and_error((above - ratio * below) / below.mean())
    return Measured(ratio, error)


def _beside(values: Floats, floor: Floats) -> Measured:
    return Measured(*mean_and_error(values), *mean_and_error(floor))
