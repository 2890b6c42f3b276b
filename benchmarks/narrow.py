"""Widths of narrow posteriors drawn by `diffusion-transformer`: `python benchmarks/narrow.py`.

theta ~ N(0, 1) is measured as x = theta + s e. The first law alone is exact here, so one training step at
next to no rate does (at the default one the network says something after it), and what is left is the solver.
Prints the standard deviation of the draws over the exact one, s / sqrt(1 + s^2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from _record import record
from numpy.typing import NDArray
from torch import Tensor

import sbikit
from sbikit import Normal, Prior, Simulations, Simulator, Values, Vector, Workspace, draw_seeds, normals

WIDTHS = (0.3, 0.1, 0.05, 0.03, 0.01, 0.003, 0.001)
DRAWS, OBSERVATIONS, TRAININGS = 4000, 4, 4
ONE_STEP = {"steps": 1, "rate": 1e-6, "width": 16, "depth": 1, "heads": 2}


@dataclass
class Measured(Simulator):
    """theta (B, 1) to x = theta + s e (B, 1)."""

    s: float

    prior = Prior({"theta": Normal(0.0, 1.0)})
    outputs = (Vector("x", ("x",)),)
    observed = ("x",)

    def __post_init__(self) -> None:
        super().__init__()

    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        """One x a row of theta."""
        return {"x": parameters["theta"] + self.s * normals(seeds, (1,))}


def ratio(s: float, seed: int) -> float:
    """Standard deviation of draws over the exact one, the mean over observations."""
    stream = Simulations(Measured(s), seed)
    made = sbikit.load("estimator", "diffusion-transformer", **ONE_STEP)
    sampler = made.fit(stream, seed=seed, workspace=Workspace(), monitor=sbikit.QuietMonitor())
    x = stream.held_out(0, OBSERVATIONS)["x"]
    draws = sampler.sample({"x": x}, DRAWS, seeds=draw_seeds(seed, "narrow", 0, OBSERVATIONS))
    exact = s / math.sqrt(1.0 + s * s)
    return float((draws.values["theta"].double().std(0) / exact).mean())


if __name__ == "__main__":
    torch.set_num_threads(1)
    for s in WIDTHS:
        found = np.array([ratio(s, seed) for seed in range(TRAININGS)])
        error = float(found.std(ddof=1) / math.sqrt(TRAININGS))
        record(f"sd of draws over the exact one, s = {s:g}", float(found.mean()), error, ideal=1.0)
