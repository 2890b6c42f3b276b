"""A toy problem of fields of three grids whose posterior is known: all is normal and linear.

Two parameters and a map of 12 x 12 pixels are inferred from a map of the same patch with 24 x 24 pixels and
a spectrum of 20 points. With z the parameters and the hidden map, z ~ N(0, C), the data are H z + noise:

    covariance = (C^-1 + H^T N^-1 H)^-1,   mean = covariance H^T N^-1 data.

The first parameter is a mound in the hidden map, and moves the spectrum. The second is a pattern finer than
the hidden map's pixels, which only the finer map shows, and a wave in the spectrum, which also sees the sums
of some rows of the hidden map.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbikit.problem.laws import Normal
from sbikit.problem.prior import Prior
from sbikit.problem.seeds import normals
from sbikit.problem.spec import check_observation
from sbikit.problem.variables import Field, Values
from sbikit.roles.sampler import Draws, Sampler
from sbikit.roles.simulator import Simulator

_HIDDEN, _FINE, _POINTS = 12, 24, 20
_LENGTH, _NUGGET = 2.0, 0.05  # of the hidden map: pixels over which it is alike, variance of one alone
_MAP_NOISE, _SPECTRUM_NOISE = 1.5, 0.7
_MOUND, _PATTERN = 1.5, 0.3  # heights of what the parameters add to the maps


class GaussianGrids(Simulator):
    """Parameters and a map seen as a finer map and a spectrum, with normal noise."""

    prior = Prior({"mound": Normal(0.0, 1.0), "pattern": Normal(0.0, 1.0)})
    outputs = (
        Field("hidden", (_HIDDEN, _HIDDEN)),
        Field("fine", (_FINE, _FINE)),
        Field("spectrum", (_POINTS,)),
    )
    observed = ("fine", "spectrum")

    def __init__(self) -> None:
        super().__init__()
        self.matrix, self.noise = _matrix(), _noise()
        self._root, self._mound = torch.linalg.cholesky(smooth(_HIDDEN)), mound(_HIDDEN)

    def covariance(self) -> Tensor:
        """C of parameters and hidden pixels, (146, 146), float64."""
        pixels, high = _HIDDEN**2, mound(_HIDDEN)
        found = torch.zeros(2 + pixels, 2 + pixels, dtype=torch.float64)
        found[:2, :2] = torch.eye(2)
        found[0, 2:] = found[2:, 0] = high
        found[2:, 2:] = smooth(_HIDDEN) + torch.outer(high, high)
        return found

    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        """The three fields, each (B, 1, *grid)."""
        theta, pixels = parameters["theta"].double(), _HIDDEN**2
        white = normals(seeds, (pixels + len(self.noise),)).double()
        # One draw after the other, so that it is rounded alike in every batch.
        fields = [
            self._root @ own + height * self._mound
            for own, height in zip(white[:, :pixels], theta[:, 0], strict=True)
        ]
        latents = [torch.cat([both, field]) for both, field in zip(theta, fields, strict=True)]
        data = [self.matrix @ z + self.noise * own for z, own in zip(latents, white[:, pixels:], strict=True)]
        hidden, seen = torch.stack(fields), torch.stack(data)
        return {
            "hidden": hidden.view(-1, 1, _HIDDEN, _HIDDEN).float(),
            "fine": seen[:, : _FINE**2].reshape(-1, 1, _FINE, _FINE).float(),
            "spectrum": seen[:, _FINE**2 :].reshape(-1, 1, _POINTS).float(),
        }

    def exact_sampler(self) -> ExactGrids:
        """A sampler of the exact posterior."""
        return ExactGrids(self)


class ExactGrids(Sampler):
    """The exact posterior of `GaussianGrids`.

    Attributes:
        covariance: of parameters and hidden pixels, (146, 146), float64, the same for every observation.
    """

    def __init__(self, simulator: GaussianGrids) -> None:
        self.spec = simulator.spec
        weighted = simulator.matrix.T / simulator.noise**2
        self.covariance = torch.linalg.inv(
            torch.linalg.inv(simulator.covariance()) + weighted @ simulator.matrix
        )
        self._gain = self.covariance @ weighted
        self._root = torch.linalg.cholesky(self.covariance)

    def sample(self, observation: Values, n: int, *, seeds: NDArray[np.int64]) -> Draws:
        """Exact draws of theta (n, B, 2) and hidden (n, B, 1, 12, 12)."""
        check_observation(observation, self.spec, seeds)
        data = torch.cat([observation[name].double().flatten(1) for name in ("fine", "spectrum")], 1)
        means = torch.stack([self._gain @ row for row in data])
        white = normals(seeds, (n, len(self._root))).double()
        z = means[:, None] + torch.stack([own @ self._root.T for own in white])
        theta, hidden = z[..., :2], z[..., 2:].unflatten(-1, (1, _HIDDEN, _HIDDEN))
        return Draws.unjudged(
            {"theta": theta.transpose(0, 1).float(), "hidden": hidden.transpose(0, 1).float()}
        )


def smooth(size: int) -> Tensor:
    """Covariance of a map of unit variance that is alike over two pixels, and of pixels' own, (P, P)."""
    at = torch.cartesian_prod(*[torch.arange(size, dtype=torch.float64)] * 2)
    return torch.exp(-0.5 * torch.cdist(at, at).square() / _LENGTH**2) + _NUGGET * torch.eye(size**2)


def mound(size: int) -> Tensor:
    """What a unit of the first parameter adds to the hidden map, (P,)."""
    x = torch.linspace(-1.0, 1.0, size, dtype=torch.float64)
    return (_MOUND * torch.exp(-3.0 * (x[:, None] ** 2 + (x[None, :] - 0.3) ** 2))).flatten()


def _matrix() -> Tensor:
    """H: parameters and hidden pixels to the finer map and the spectrum, (596, 146)."""
    repeated = torch.eye(_HIDDEN**2, dtype=torch.float64).view(_HIDDEN, _HIDDEN, -1)
    ratio = _FINE // _HIDDEN
    repeated = repeated.repeat_interleave(ratio, 0).repeat_interleave(ratio, 1).reshape(_FINE**2, -1)
    sign = 1.0 - 2.0 * (torch.arange(_FINE, dtype=torch.float64) % 2)
    fine = torch.zeros(_FINE**2, 2 + _HIDDEN**2, dtype=torch.float64)
    fine[:, 1] = _PATTERN * torch.outer(sign, sign).flatten()
    fine[:, 2:] = repeated
    spectrum = torch.zeros(_POINTS, 2 + _HIDDEN**2, dtype=torch.float64)
    point = torch.arange(_POINTS, dtype=torch.float64)
    spectrum[:, 0] = 0.3
    spectrum[:, 1] = 0.2 * torch.sin(2.0 * math.pi * point / 7.0)
    for row in range(_HIDDEN):
        spectrum[row, 2 + row * _HIDDEN : 2 + (row + 1) * _HIDDEN] = 1.0 / _HIDDEN
    return torch.cat([fine, spectrum])


def _noise() -> Tensor:
    """Standard deviations of the noise, (596,)."""
    sds = torch.tensor([_MAP_NOISE, _SPECTRUM_NOISE], dtype=torch.float64)
    return sds.repeat_interleave(torch.tensor([_FINE**2, _POINTS]))
