"""Plug-ins that nobody registered, with an exact posterior, for tests of the interface from Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sbikit import Estimator, ExactSampler, Prior, Sampler, Simulator, Uniform, Vector
from sbikit.testing import GaussianField, GaussianVector


class Plain(GaussianVector):
    """The linear toy as a class of somebody's module."""


class Known(Estimator):
    """Fits nothing: it knows the posterior of `GaussianVector` and `GaussianField`."""

    _fits: list[int] = []  # seeds of the fits so far

    def fit(self, simulations: Any, *, seed: int, workspace: Any, monitor: Any) -> Sampler:
        del workspace, monitor
        simulations.training(0, 300)
        self._fits.append(seed)
        return simulations.simulator.exact_sampler()

    def save(self, sampler: Sampler, folder: Path) -> None:
        (folder / "nothing.json").write_text("{}")

    def load(self, folder: Path, simulator: Simulator, *, device: Any = "cpu") -> Sampler:
        del folder, device
        assert isinstance(simulator, GaussianVector | GaussianField)
        return simulator.exact_sampler()


class Exactly(ExactSampler):
    """The exact posterior of the toys."""

    def posterior(self, simulator: Simulator, *, monitor: Any, device: Any = "cpu") -> Sampler:
        del monitor, device
        assert isinstance(simulator, GaussianVector | GaussianField)
        return simulator.exact_sampler()


class Counting(Simulator):
    """Counts at a rate, one draw at a time."""

    prior = Prior({"rate": Uniform(1.0, 9.0)})
    outputs = (Vector("counts", ("first", "second")),)
    observed = ("counts",)

    def simulate_one(self, parameters: Any, rng: np.random.Generator) -> dict[str, Any]:
        return {"counts": rng.poisson(parameters["rate"], size=2)}
