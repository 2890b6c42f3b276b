"""Simulators whose cost, failures and size are known, and entry points by which they are found."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
from _entry_points import install
from pydantic import Field as Option
from torch import Tensor

from sbikit import Field, Options, Prior, Simulator, Uniform, Values, Vector, normals
from sbikit.testing import GaussianVector

PIXELS, BINS = 128, 5

_ENTRY = """
from sbikit import Offer, hookimpl

@hookimpl
def sbikit_simulators():
    where = "_keeping.simulators:"
    return [Offer("keeping-traced", where + "Traced", "writes down what it draws"),
            Offer("keeping-sleeper", where + "Sleeper", "20 ms a draw"),
            Offer("keeping-failing", where + "Failing", "a tenth of its draws fail")]
"""


class TracedOptions(Options):
    """Options of `Traced`."""

    trace: str = Option(default="", description="file to which the seed of every draw is appended")
    pause: float = Option(default=0.002, ge=0, le=1, description="seconds a draw")


class Traced(GaussianVector):
    """The toy of known posterior, which writes down what it draws."""

    Options = TracedOptions

    def __init__(self, options: TracedOptions | None = None) -> None:
        self.options = options or TracedOptions()

    def simulate(self, parameters: Values, *, seeds: np.ndarray) -> dict[str, Tensor]:
        """As the toy."""
        time.sleep(self.options.pause * len(seeds))
        found = super().simulate(parameters, seeds=seeds)
        if self.options.trace:
            line = "".join(f"{seed}\n" for seed in seeds.tolist()).encode()
            file = os.open(self.options.trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.write(file, line)
            os.close(file)
        return found


class Sleeper(Simulator):
    """Two numbers after 20 ms of sleep a draw."""

    seconds = 0.02
    prior = Prior({"a": Uniform(-1.0, 1.0)})
    outputs = (Vector("x", ("x1", "x2")),)
    observed = ("x",)

    def simulate(self, parameters: Values, *, seeds: np.ndarray) -> dict[str, Tensor]:
        """x (B, 2)."""
        time.sleep(self.seconds * len(seeds))
        return {"x": parameters["theta"] + normals(seeds, (2,))}


class Failing(Simulator):
    """x = theta + e, which fails where theta < -0.8: a tenth of the prior, half by an error, half by NaN."""

    prior = Prior({"a": Uniform(-1.0, 1.0)})
    outputs = (Vector("x", ("x1",)),)
    observed = ("x",)

    def simulate(self, parameters: Values, *, seeds: np.ndarray) -> dict[str, Tensor]:
        """x (B, 1)."""
        theta = parameters["theta"]
        if bool((theta < -0.9).any()):
            raise ArithmeticError("no solution there")
        x = theta + 0.3 * normals(seeds, (1,))
        return {"x": torch.where(theta < -0.8, torch.nan, x)}


class Maps(Simulator):
    """Noise on 128 pixels a side in five bins, hidden and observed: 0.98 MB a draw at next to no cost."""

    prior = Prior({"a": Uniform(-1.0, 1.0)})
    outputs = (
        Field("kappa", (PIXELS, PIXELS), BINS, stationary=True, periodic=True),
        Field("shear", (PIXELS, PIXELS), 2 * BINS, stationary=True, periodic=True),
    )
    observed = ("shear",)

    def simulate(self, parameters: Values, *, seeds: np.ndarray) -> dict[str, Tensor]:
        """Both fields."""
        shapes = {v.name: (len(seeds), *v.shape) for v in self.outputs}
        source = torch.Generator().manual_seed(int(seeds[0]))
        return {name: torch.randn(shape, generator=source) for name, shape in shapes.items()}


def install_simulators(folder: Path) -> None:
    """Let sbikit, in this process and in workers, find them."""
    install(folder, "keeping", _ENTRY)
    here = str(Path(__file__).resolve().parent.parent)
    paths = [str(folder), here, os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    sys.path.insert(1, here)
