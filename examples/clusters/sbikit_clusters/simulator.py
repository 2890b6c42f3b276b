"""Two simulators of one problem: a dear one, cluster by cluster, and a cheap one of expected numbers.

Both give whole numbers in bins of mass, and neither has a gradient. The dear one draws every cluster,
scatters its mass and may overlook it; the cheap one takes masses for known, and is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from sbikit import Prior, Simulator, Uniform, Vector
from sbikit_clusters.mass_function import BLUR, EDGES, LEAST, LIMIT, MOST, SCATTER, VOLUME, density

_NODES = 2000  # of ln M, between which the mass function is a line


class _Counted(Simulator):
    """What both share."""

    prior = Prior(
        {"Omega_m": Uniform(0.1, 0.5), "sigma_8": Uniform(0.6, 1.0)},
        latex={"Omega_m": r"\Omega_m", "sigma_8": r"\sigma_8"},
    )
    outputs = (Vector("counts", tuple(f"N{i + 1}" for i in range(len(EDGES) - 1))),)
    observed = ("counts",)


class Clusters(_Counted):
    """Clusters one by one, each with an uncertain mass, of which some are overlooked."""

    def simulate_one(
        self, parameters: Mapping[str, float], rng: np.random.Generator
    ) -> dict[str, NDArray[np.floating]]:
        """One survey: `counts`."""
        ln_mass = np.linspace(LEAST, MOST, _NODES)
        number = density(ln_mass, parameters["Omega_m"], parameters["sigma_8"])
        steps = 0.5 * (number[1:] + number[:-1]) * np.diff(ln_mass)
        below = np.concatenate([[0.0], np.cumsum(steps)])
        true = np.interp(rng.uniform(0.0, below[-1], rng.poisson(VOLUME * below[-1])), below, ln_mass)
        seen = true + SCATTER * rng.standard_normal(len(true))
        found = rng.uniform(size=len(true)) < ndtr((true - LIMIT) / BLUR)
        return {"counts": np.histogram(seen[found], EDGES)[0].astype(np.float64)}


class CheapClusters(_Counted):
    """Poisson numbers of the clusters that are found, as if their masses were known."""

    def simulate_one(
        self, parameters: Mapping[str, float], rng: np.random.Generator
    ) -> dict[str, NDArray[np.floating]]:
        """One survey: `counts`."""
        middles = 0.5 * (EDGES[1:] + EDGES[:-1])
        number = density(middles, parameters["Omega_m"], parameters["sigma_8"])
        rate = VOLUME * number * np.diff(EDGES) * ndtr((middles - LIMIT) / BLUR)
        return {"counts": rng.poisson(rate).astype(np.float64)}
