"""Fields of independent normal pixels, seen with normal noise: half of every datum is signal.

The posterior of a pixel is normal with half the datum as its mean and half the prior's variance, and the same
holds for the parameters, so exact draws cost as much as their random numbers.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field as Option

from sbikit import (
    Draws,
    Estimator,
    ExactSampler,
    Field,
    JointDraws,
    Monitor,
    Normal,
    Options,
    Prior,
    Sampler,
    Simulator,
    Spec,
    Values,
    Vector,
    Workspace,
    normals,
)

_AT_ONCE = 64  # training simulations


class PixelsOptions(Options):
    """Options of `Pixels`."""

    pixels: int = Option(default=128, ge=4, le=1024, description="along each of two axes")
    bins: int = Option(default=5, ge=1, le=20, description="channels of the field")


class Pixels(Simulator[PixelsOptions]):
    """Two parameters and a field, and noisy versions of them."""

    prior = Prior({"a": Normal(0.0, 1.0), "b": Normal(0.0, 1.0)})
    observed = ("x", "data")

    def __init__(self, options: PixelsOptions | None = None) -> None:
        super().__init__(options)
        grid = (self.options.pixels, self.options.pixels)
        field, data = (
            Field(name, grid, channels=self.options.bins, stationary=True, periodic=True)
            for name in ("field", "data")
        )
        self.outputs = (Vector("x", ("xa", "xb")), field, data)

    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, torch.Tensor]:
        """x (B, 2), and field and data (B, bins, pixels, pixels)."""
        shape = self.outputs[1].shape
        noise = normals(seeds, (2,))
        maps = normals(seeds + 1, (2, *shape))
        field = maps[:, 0].clone()
        return {"x": parameters["theta"] + noise, "field": field, "data": field + maps[:, 1]}


class PixelsPosterior(Sampler):
    """Exact draws."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec

    def sample(self, observation: Values, n: int, *, seeds: NDArray[np.int64]) -> Draws:
        """theta (n, B, 2) and field (n, B, bins, pixels, pixels)."""
        field = observation["data"]
        draws = {"field": torch.empty(n, *field.shape), "theta": torch.empty(n, len(seeds), 2)}
        for b in range(len(seeds)):
            one = seeds[b : b + 1]
            for name, data, seed in (("theta", observation["x"], one), ("field", field, one + 1)):
                noise = normals(seed, (n, *data.shape[1:]))[0]
                draws[name][:, b] = noise.mul_(0.5**0.5).add_(0.5 * data[b])
        return Draws.unjudged(draws)


class UntrainedOptions(Options):
    """Options of `Untrained`."""

    simulations: int = Option(default=2048, ge=1, le=100_000, description="that are drawn")


class Untrained(Estimator[UntrainedOptions]):
    """Draws the simulations that a fit draws, and needs none of them."""

    def match(self, spec: Spec) -> Spec:
        """All latents."""
        return spec

    def fit(self, simulations: JointDraws, *, seed: int, workspace: Workspace, monitor: Monitor) -> Sampler:
        """The exact posterior, after drawing the simulations."""
        for first in range(0, self.options.simulations, _AT_ONCE):
            simulations.training(first, _AT_ONCE)
        return PixelsPosterior(simulations.spec)

    def save(self, sampler: Sampler, folder: Path) -> None:
        """Nothing is kept."""
        (folder / "nothing").write_text("")

    def load(self, folder: Path, simulator: Simulator, *, device: torch.device | str = "cpu") -> Sampler:
        """The exact posterior."""
        return PixelsPosterior(simulator.spec)


class Exact(ExactSampler[Options]):
    """The same as a reference."""

    def posterior(
        self, simulator: Simulator, *, monitor: Monitor, device: torch.device | str = "cpu"
    ) -> Sampler:
        """The exact posterior."""
        return PixelsPosterior(simulator.spec)
