"""One-point statistics of fields."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """One-point moments over the pixels, each (*batch,); skewness and kurtosis are 0 for a Gaussian."""

    mean: Floats
    sd: Floats
    skewness: Floats
    kurtosis: Floats


def histogram(field: ArrayLike, edges: ArrayLike, *, axes: int) -> Floats:
    """One-point density of each field: integrates to the fraction of pixels inside the edges.

    Args:
        field: (*batch, *grid).
        edges: (K + 1,), rising.
        axes: number of grid axes.

    Returns:
        (*batch, K), in 1 / unit.
    """
    values, borders = np.asarray(field, np.float64), np.asarray(edges, np.float64)
    batch = values.shape[: values.ndim - axes]
    rows = values.reshape(math.prod(batch), -1)
    counts = np.array([np.histogram(row, borders)[0] for row in rows], np.float64)
    return (counts / rows.shape[1] / np.diff(borders)).reshape(*batch, -1)


def moments(field: ArrayLike, *, axes: int) -> Moments:
    """Mean, standard deviation, skewness and excess kurtosis over the last `axes` axes."""
    values = np.asarray(field, np.float64)
    over = tuple(range(-axes, 0))
    mean = values.mean(over)
    centred = values - values.mean(over, keepdims=True)
    square = centred * centred  # products: powers of arrays cost ten times as much
    variance = square.mean(over)
    safe = np.where(variance > 0, variance, 1.0)
    return Moments(
        mean=mean,
        sd=np.sqrt(variance),
        skewness=(square * centred).mean(over) / safe**1.5,
        kurtosis=np.where(variance > 0, (square * square).mean(over) / safe**2 - 3.0, 0.0),
    )
