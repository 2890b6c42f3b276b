"""Curves of agreement: offsets of the means, correlations of parameters with maps, power of the draws."""

from __future__ import annotations

import numpy as np

from sbikit import Curve, mean_and_error
from sbikit_calibration.agreement.trio import Floats

_MOST_LEVELS = 41  # points of a curve where there are more observations, 2.4 % apart: more show no more
_BOOTSTRAP = 400  # 10 resamples lie beyond either end of a 95 % band: it is drawn, nothing is judged by it
_BINS = 10  # of the correlations, of as many each: more scatter more, fewer hide a bend
_WIDTH = 1.96  # standard errors on either side of a 95 % band, for a normal error


def offset_curve(variable: str, offsets: Floats, seed: int) -> Curve:
    """Quantiles over observations of the mean's offset; ideal: of the offset between halves.

    Args:
        variable: the scalar's name.
        offsets: (R, 3): draws from each half, half from half, in posterior standard deviations.
        seed: fixes the bootstrap over observations that makes the band.
    """
    R = len(offsets)
    levels = (np.arange(min(R, _MOST_LEVELS)) + 0.5) / min(R, _MOST_LEVELS)
    both, floor = offsets[:, :2], np.concatenate([offsets[:, 2], -offsets[:, 2]])
    picks = np.random.default_rng(seed).integers(R, size=(_BOOTSTRAP, R))
    resampled = np.quantile(both[picks].reshape(_BOOTSTRAP, -1), levels, axis=1)
    low, high = np.quantile(resampled, [0.025, 0.975], axis=1)
    return Curve(
        "mean_offset",
        variable,
        tuple(levels.tolist()),
        tuple(np.quantile(both, levels).tolist()),
        tuple(low.tolist()),
        tuple(high.tolist()),
        tuple(np.quantile(floor, levels).tolist()),
        "share of observations",
        "offset of the mean [sd]",
    )


def coherence_curve(variable: str, found: Floats) -> Curve:
    """Correlation in the draws against that in a half of the reference; ideal: in its other half.

    A half's correlation scatters, so where it is high it is high by chance, too: the other half, and exact
    draws, fall back towards the mean. The dashed line shows by how much.

    Args:
        variable: the scalar's name.
        found: correlations of S summaries in the draws and in the two halves, (R, 3, S).
    """
    R, _, S = found.shape
    x = np.concatenate([found[:, 1].ravel(), found[:, 2].ravel()])
    y = np.concatenate([found[:, 0].ravel()] * 2)
    ideal = np.concatenate([found[:, 2].ravel(), found[:, 1].ravel()])
    owner = np.tile(np.repeat(np.arange(R), S), 2)
    edges = np.quantile(x, np.linspace(0, 1, _BINS + 1)[1:-1])
    label = np.searchsorted(edges, x)
    rows = [_bin(x[m], y[m], ideal[m], owner[m]) for m in (label == k for k in range(_BINS)) if m.any()]
    at, mean, error, expected = (np.array(column) for column in zip(*rows, strict=True))
    return Curve(
        "coherence",
        variable,
        tuple(at.tolist()),
        tuple(mean.tolist()),
        tuple((mean - _WIDTH * error).tolist()),
        tuple((mean + _WIDTH * error).tolist()),
        tuple(expected.tolist()),
        "correlation in half of the reference",
        "the same in the draws",
    )


def _bin(x: Floats, y: Floats, ideal: Floats, owner: Floats) -> tuple[float, float, float, float]:
    """Means, and the error of that of y when only observations are independent."""
    mean = float(y.mean())
    totals = np.bincount(owner.astype(np.intp), y - mean)
    return float(x.mean()), mean, float(np.sqrt((totals**2).sum())) / len(y), float(ideal.mean())


def power_curve(variable: str, k: Floats, numbers: Floats, unit: str) -> Curve:
    """Geometric mean over observations of the ratio of power, with its 95 % band.

    Args:
        variable: the channel's name.
        k: wave numbers, (K,).
        numbers: log ratios, (R, K).
        unit: that of the field's extent.
    """
    mean, error = np.array([mean_and_error(column) for column in numbers.T]).T
    return Curve(
        "band_power_ratio",
        variable,
        tuple(k.tolist()),
        tuple(np.exp(mean).tolist()),
        tuple(np.exp(mean - _WIDTH * error).tolist()),
        tuple(np.exp(mean + _WIDTH * error).tolist()),
        (1.0,) * len(k),
        f"wave number [rad/{unit}]",
        "power over the reference's",
    )
