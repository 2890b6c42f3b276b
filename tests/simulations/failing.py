"""Toys that fail in a known part of their prior, for workers of other processes, too."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbikit import Values
from sbikit.testing import GaussianVector

LIMIT = 1.5  # of the parameter a ~ N(1, 0.5): 16 % lie above


class Raises(GaussianVector):
    """One standard deviation above the mean and beyond; in a batch no row has a result then."""

    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        a = parameters["theta"][:, 0]
        if bool((a > LIMIT).any()):
            raise ValueError(f"no solution at a = {float(a.max()):.3f}")
        return super().simulate(parameters, seeds=seeds)


class NotFinite(GaussianVector):
    """Where the data say so, which depends on the noise, too."""

    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        x = super().simulate(parameters, seeds=seeds)["x"]
        x[x[:, 0] > LIMIT] = float("nan")
        return {"x": x}


class Crashes(GaussianVector):
    """It takes its process along."""

    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        if bool((parameters["theta"][:, 0] > LIMIT).any()):
            os.kill(os.getpid(), signal.SIGSEGV)
        return super().simulate(parameters, seeds=seeds)


class Hangs(GaussianVector):
    """For ever."""

    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        while bool((parameters["theta"][:, 0] > LIMIT).any()):
            time.sleep(1.0)
        return super().simulate(parameters, seeds=seeds)


class Never(GaussianVector):
    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        raise ValueError("no licence")


class SleepsTwentyMilliseconds(GaussianVector):
    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        time.sleep(0.02 * len(seeds))
        return super().simulate(parameters, seeds=seeds)


def good(name: str, draw: Values) -> bool:
    """Whether a toy works at a draw of the plain toy, which has the same randomness."""
    first = draw["x" if name == "NotFinite" else "theta"][0, 0]
    return bool(first <= torch.tensor(LIMIT))
