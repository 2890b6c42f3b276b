"""A toy problem of data that can be missing, whose posterior is known: all is normal and linear.

Two parameters and a map of 12 x 12 pixels are inferred from the map with noise, of which in every second
observation the pixels of a rectangle are missing and in all of them one pixel in ten, and from four numbers,
each missing in a quarter of the observations and all of them in a fifth. With z the parameters and the map,
z ~ N(0, C), and those rows of the data that are seen, H z + noise:

    covariance = (C^-1 + H^T N^-1 H)^-1,   mean = covariance H^T N^-1 data.

What is missing depends on nothing else, so that its law leaves the posterior as it is (Rubin 1976).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbikit.problem.laws import Normal
from sbikit.problem.prior import Prior
from sbikit.problem.seeds import normals
from sbikit.problem.spec import check_observation
from sbikit.problem.variables import Field, Values, Vector
from sbikit.roles.sampler import Draws, Sampler
from sbikit.roles.simulator import LogDensity, Simulator
from sbikit.testing.grids import mound, smooth

_SIZE = 12
_PIXELS = _SIZE**2
_NOISE = 1.0  # of a pixel
_OFFSET = 5.0  # of the numbers, which are nowhere near 0
_NUMBERS = torch.tensor([[0.8, 0.0], [0.0, 1.0], [0.5, -0.7], [0.0, 0.6]], dtype=torch.float64)
_NUMBERS_NOISE = torch.tensor([1.0, 0.6, 0.9, 0.4], dtype=torch.float64)
_ALL, _EACH, _PIXEL, _RECTANGLE = 0.2, 0.25, 0.1, 0.5  # how often they are missing


class GaussianGaps(Simulator):
    """Parameters and a map seen as a map with holes and numbers that can be missing, with normal noise."""

    prior = Prior({"mound": Normal(0.0, 1.0), "height": Normal(0.0, 1.0)})
    outputs = (
        Field("hidden", (_SIZE, _SIZE)),
        Field("map", (_SIZE, _SIZE), fill=0.0),
        Vector("numbers", ("n1", "n2", "n3", "n4"), fill=_OFFSET),
    )
    observed = ("map", "numbers")

    def __init__(self) -> None:
        super().__init__()
        self._root, self._mound = torch.linalg.cholesky(smooth(_SIZE)), mound(_SIZE)

    def covariance(self) -> Tensor:
        """C of parameters and hidden pixels, (146, 146), float64."""
        latent = torch.zeros(2 + _PIXELS, 2 + _PIXELS, dtype=torch.float64)
        latent[:2, :2] = torch.eye(2)
        latent[0, 2:] = latent[2:, 0] = self._mound
        latent[2:, 2:] = smooth(_SIZE) + torch.outer(self._mound, self._mound)
        return latent

    def matrix(self) -> Tensor:
        """H: parameters and hidden pixels to map and numbers, (148, 146), float64."""
        found = torch.zeros(_PIXELS + 4, 2 + _PIXELS, dtype=torch.float64)
        found[:_PIXELS, 2:] = torch.eye(_PIXELS)
        found[_PIXELS:, :2] = _NUMBERS
        return found

    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        """Hidden map and map (B, 1, 12, 12), numbers (B, 4); NaN where they are missing."""
        theta = parameters["theta"].double()
        white = normals(seeds, (2 * _PIXELS + 4,)).double()
        drawn = [self._draw(*one) for one in zip(theta, white, seeds.tolist(), strict=True)]
        hidden, seen, numbers = (torch.stack(part).float() for part in zip(*drawn, strict=True))
        return {"hidden": hidden, "map": seen, "numbers": numbers}

    def _draw(self, theta: Tensor, white: Tensor, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        shape = (1, _SIZE, _SIZE)
        hidden = (self._root @ white[:_PIXELS] + theta[0] * self._mound).view(shape)
        noisy = hidden + _NOISE * white[_PIXELS : 2 * _PIXELS].view(shape)
        numbers = _OFFSET + (_NUMBERS * theta).sum(1) + _NUMBERS_NOISE * white[2 * _PIXELS :]
        holes, lost = _missing(np.random.default_rng(seed))
        return hidden, noisy.masked_fill(holes, torch.nan), numbers.masked_fill(lost, torch.nan)

    def log_density(self, observation: Values) -> LogDensity:
        """The joint density of white coordinates of parameters and pixels, and what is seen of the data."""
        data, seen = _data(observation)
        matrix, deviation = self.matrix(), _deviation()

        def latents(z: Tensor) -> Tensor:
            pixels = z[..., 2:] @ self._root.T + z[..., :1] * self._mound
            return torch.cat([z[..., :2], pixels], -1)

        def log_prob(z: Tensor) -> Tensor:
            residual = seen * (data - latents(z) @ matrix.T) / deviation
            return -0.5 * (z**2).sum(-1) - 0.5 * (residual**2).sum(-1)

        def decode(z: Tensor) -> dict[str, Tensor]:
            found = latents(z)
            return {"theta": found[..., :2], "hidden": found[..., 2:].unflatten(-1, (1, _SIZE, _SIZE))}

        return LogDensity(2 + _PIXELS, log_prob, decode, 2)

    def exact_sampler(self) -> ExactGaps:
        """A sampler of the exact posterior."""
        return ExactGaps(self)


class ExactGaps(Sampler):
    """The exact posterior of `GaussianGaps`."""

    def __init__(self, simulator: GaussianGaps) -> None:
        self.spec = simulator.spec
        self._matrix, self._precision = simulator.matrix(), torch.linalg.inv(simulator.covariance())

    def moments(self, observation: Values) -> tuple[Tensor, Tensor]:
        """Mean (B, 146) and covariance (B, 146, 146) of parameters and hidden pixels, float64."""
        data, seen = _data(observation)
        weight = seen / _deviation() ** 2
        precision = self._precision + (self._matrix.T * weight[:, None, :]) @ self._matrix
        covariance = torch.linalg.inv(precision)
        return torch.einsum("bij,jk,bk->bi", covariance, self._matrix.T, weight * data), covariance

    def sample(self, observation: Values, n: int, *, seeds: NDArray[np.int64]) -> Draws:
        """Exact draws of theta (n, B, 2) and hidden (n, B, 1, 12, 12)."""
        check_observation(observation, self.spec, seeds)
        mean, covariance = self.moments(observation)
        white = normals(seeds, (n, mean.shape[1])).double()
        z = (mean[:, None] + white @ torch.linalg.cholesky(covariance).mT).transpose(0, 1).float()
        return Draws.unjudged({"theta": z[..., :2], "hidden": z[..., 2:].unflatten(-1, (1, _SIZE, _SIZE))})


def _missing(rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Pixels (1, 12, 12) and numbers (4,) that are missing, bool."""
    holes = rng.random((1, _SIZE, _SIZE)) < _PIXEL
    (top, left), (down, right) = rng.integers(0, _SIZE - 3, 2), rng.integers(3, 7, 2)
    if rng.random() < _RECTANGLE:
        holes[0, top : top + down, left : left + right] = True
    lost = (rng.random(4) < _EACH) | (rng.random() < _ALL)
    return torch.from_numpy(holes), torch.from_numpy(lost)


def _data(observation: Values) -> tuple[Tensor, Tensor]:
    """Map and numbers without their offset (B, 148), and which are seen, 1 or 0; float64."""
    numbers = observation["numbers"].double() - _OFFSET
    seen = [observation[f"{name}_seen"].double().flatten(1) for name in ("map", "numbers")]
    return torch.cat([observation["map"].double().flatten(1), numbers], 1), torch.cat(seen, 1)


def _deviation() -> Tensor:
    """Standard deviations of the noise, (148,)."""
    return torch.cat([torch.full((_PIXELS,), _NOISE, dtype=torch.float64), _NUMBERS_NOISE])
