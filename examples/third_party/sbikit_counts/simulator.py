"""Counts in cells of a log-normal intensity (a Cox process; Coles and Jones 1991)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Option

from sbikit import Field, Options, Prior, Simulator, Uniform, Values


class CountsOptions(Options):
    """Options of `counts`."""

    size: int = Option(16, ge=4, le=128, description="cells a side")


class Counts(Simulator[CountsOptions]):
    """Poisson counts on a periodic grid, with mean and roughness to be inferred."""

    prior = Prior(
        {"log_mean": Uniform(0.5, 2.5), "roughness": Uniform(0.3, 1.2)},
        latex={"log_mean": r"\ln \bar n", "roughness": r"\sigma"},
    )
    observed = ("counts",)

    def __init__(self, options: CountsOptions | None = None) -> None:
        super().__init__(options)
        grid = (self.options.size, self.options.size)
        intensity = Field(
            "intensity", grid, latex=r"\lambda", extent_unit="cell", stationary=True, periodic=True
        )
        self.outputs = (intensity, replace(intensity, name="counts", latex="n"))

    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, NDArray[np.floating]]:
        """One map of intensity and counts a row of `theta`."""
        maps = [
            self._one(*theta, int(seed))
            for theta, seed in zip(parameters["theta"].tolist(), seeds, strict=True)
        ]
        return {"intensity": np.stack([m[0] for m in maps]), "counts": np.stack([m[1] for m in maps])}

    def _one(self, log_mean: float, roughness: float, seed: int) -> tuple[NDArray, NDArray]:
        """Intensity and counts, each (1, N, N)."""
        random = np.random.default_rng(seed)
        n = self.options.size
        k = np.hypot(*np.meshgrid(np.fft.fftfreq(n) * n, np.fft.rfftfreq(n) * n, indexing="ij"))
        shape = 1.0 / (1.0 + k**2)
        shape[0, 0] = 0.0
        field = np.fft.irfft2(np.fft.rfft2(random.standard_normal((n, n))) * shape, s=(n, n))
        field *= roughness / np.sqrt(np.fft.irfft2(shape**2, s=(n, n))[0, 0])
        intensity = np.exp(log_mean + field - roughness**2 / 2)
        return intensity[None], random.poisson(intensity)[None].astype(float)
