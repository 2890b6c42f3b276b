"""The exact posterior, by brute force on a grid, from the closed form that the program integrates to.

    x(t) = exp(-g t) (cos w t + g / w sin w t),   w^2 = (2 pi f)^2 - g^2,

where damping is weak (g < 2 pi f, as in all of the prior), and independent normal noise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sbikit_oscillator.simulator import DURATION, Oscillator

NODES = 401  # along each axis, ten or more in a posterior's sd


def displacement(
    t: NDArray[np.float64], frequency: NDArray[np.float64], damping: NDArray[np.float64]
) -> NDArray[np.float64]:
    """x at times (T,) for frequencies and dampings (*batch,), to (*batch, T)."""
    g, stiffness = damping[..., None], (2 * np.pi * frequency[..., None]) ** 2
    w = np.sqrt(stiffness - g**2)
    return np.exp(-g * t) * (np.cos(w * t) + g / w * np.sin(w * t))


def moments(
    simulator: Oscillator, data: NDArray[np.floating], nodes: int = NODES
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and sd (B, 2) of frequency and damping given series (B, times); the prior is uniform."""
    times = simulator.options.times
    t = DURATION / times * np.arange(1, times + 1)
    axes = [_middles(law.low, law.high, nodes) for law in simulator.prior.laws.values()]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
    model = displacement(t, grid[:, 0], grid[:, 1])
    found = []
    for row in np.asarray(data, np.float64):
        log_weight = -0.5 * (((row - model) / simulator.options.noise) ** 2).sum(-1)
        weight = np.exp(log_weight - log_weight.max())
        mean = weight @ grid / weight.sum()
        found.append((mean, np.sqrt(weight @ (grid - mean) ** 2 / weight.sum())))
    means, sds = zip(*found, strict=True)
    return np.stack(means), np.stack(sds)


def _middles(low: float, high: float, nodes: int) -> NDArray[np.float64]:
    return low + (high - low) * (np.arange(nodes) + 0.5) / nodes
