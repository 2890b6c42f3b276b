"""Curves of agreement: offsets of the means, and the power of the draws against the wave number."""

from __future__ import annotations

import numpy as np

from sbikit import Curve
from sbikit_calibration.agreement_figures import Floats

_MOST_LEVELS = 41
_BOOTSTRAP = 400


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


def power_curve(variable: str, k: Floats, numbers: Floats, unit: str) -> Curve:
    """Geometric mean over observations of the ratio of power, with its 95 % band.

    Args:
        variable: the channel's name.
        k: wave numbers, (K,).
        numbers: log ratios, (R, K).
        unit: that of the field's extent.
    """
    mean, error = numbers.mean(0), numbers.std(0, ddof=1) / len(numbers) ** 0.5
    return Curve(
        "band_power_ratio",
        variable,
        tuple(k.tolist()),
        tuple(np.exp(mean).tolist()),
        tuple(np.exp(mean - 1.96 * error).tolist()),
        tuple(np.exp(mean + 1.96 * error).tolist()),
        (1.0,) * len(k),
        f"wave number [rad/{unit}]",
        "power over the reference's",
    )
