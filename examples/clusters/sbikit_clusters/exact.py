"""The exact posterior of the dear simulator, by brute force.

Clusters are independent of each other, so the numbers in bins are independent Poisson numbers with

    lambda_b = V int dn / dlnM  p(found | M)  p(observed mass in bin b | M)  dlnM.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from sbikit_clusters.mass_function import BLUR, EDGES, LEAST, LIMIT, MOST, SCATTER, VOLUME, density
from sbikit_clusters.simulator import Clusters

NODES = 401  # of each parameter, some ten in a posterior's sd
_MASSES = 600


def expected(omega_m: NDArray[np.float64], sigma_8: NDArray[np.float64]) -> NDArray[np.float64]:
    """lambda_b for parameters (*batch,), (*batch, bins)."""
    ln_mass = np.linspace(LEAST, MOST, _MASSES)
    inside = np.diff(ndtr((EDGES - ln_mass[:, None]) / SCATTER), axis=1)
    seen = inside * ndtr((ln_mass - LIMIT) / BLUR)[:, None] * (ln_mass[1] - ln_mass[0])
    return VOLUME * density(ln_mass, omega_m[..., None], sigma_8[..., None]) @ seen


def moments(
    counts: NDArray[np.floating], nodes: int = NODES
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and sd (B, 2) of the parameters given counts (B, bins); the prior is uniform."""
    axes = [
        law.low + (law.high - law.low) * (np.arange(nodes) + 0.5) / nodes
        for law in Clusters.prior.laws.values()
    ]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
    rate = expected(grid[:, 0], grid[:, 1])
    found = []
    for row in np.asarray(counts, np.float64):
        log_weight = np.log(rate) @ row - rate.sum(1)
        weight = np.exp(log_weight - log_weight.max())
        mean = weight @ grid / weight.sum()
        found.append((mean, np.sqrt(weight @ (grid - mean) ** 2 / weight.sum())))
    means, sds = zip(*found, strict=True)
    return np.stack(means), np.stack(sds)
