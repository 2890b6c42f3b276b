"""A simulator that fails where it is told to, and writes down what it is asked for; stores filled with it."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from interruption import CuttingMonitor
from numpy.typing import NDArray

from sbikit import Field, Monitor, Prior, Simulator, Uniform, Values, Vector, normals
from sbikit.simulations.keeping import Asked, Kept, keep
from sbikit.simulations.trying import simulating
from sbikit.workers import Place, open_pool

IDENTITY: dict[str, Any] = {"simulator": {"name": "fragile", "size": 3}, "offered by": "tests 1.0"}


class Fragile(Simulator):
    """Two parameters in [0, 1], three numbers and a small map.

    Args:
        raises: it raises where the first parameter is below this.
        not_finite: and returns NaN where it is above this.
        trace: a file that gets the seed of every draw, one a line.
        hangs: it never ends where the first parameter is below this.
    """

    prior = Prior({"a": Uniform(0.0, 1.0), "b": Uniform(0.0, 1.0)})
    outputs = (Vector("x", ("x1", "x2", "x3")), Field("map", (4, 4)))
    observed = ("x", "map")

    def __init__(
        self, raises: float = 0.0, not_finite: float = 1.0, trace: Path | None = None, hangs: float = 0.0
    ) -> None:
        self.raises, self.not_finite, self.trace, self.hangs = raises, not_finite, trace, hangs

    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> Mapping[str, torch.Tensor]:
        theta = parameters["theta"]
        if self.trace is not None:
            with self.trace.open("a") as file:
                file.write("".join(f"{seed} {os.getpid()}\n" for seed in seeds.tolist()))
        while bool((theta[:, 0] < self.hangs).any()):
            signal.pause()
        if bool((theta[:, 0] < self.raises).any()):
            raise ValueError("no solution below the threshold")
        x = theta.sum(1, keepdim=True) + normals(seeds, (3,))
        x[theta[:, 0] > self.not_finite] = torch.nan
        return {"x": x, "map": normals(seeds, (1, 4, 4)) * theta[:, 1, None, None, None]}


def fill(
    path: Path,
    count: int,
    simulator: Simulator | None = None,
    *,
    seed: int = 5,
    identity: Mapping[str, Any] = IDENTITY,
    most: float = 0.1,
    timeout: float | None = None,
    workers: int = 1,
    monitor: Monitor | None = None,
) -> Kept:
    """Keep the first `count` draws of a simulator."""
    simulator = simulator or Fragile()
    monitor = monitor or CuttingMonitor()
    asked = Asked(path, simulator, identity, seed, count, most, timeout)
    return keep(asked, lambda: open_pool(Place(workers), simulating(simulator), monitor), monitor)
