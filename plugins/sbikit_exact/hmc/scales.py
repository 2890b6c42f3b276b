"""Scales of the coordinates of each observation's posterior, which warm-up learns.

z = m + M y with m the mean of the draws of all chains and M block-diagonal, a lower-triangular block for the
parameters and a diagonal for the other coordinates, such that M M^T is the covariance of these draws, kept
from being singular by 10^-3 / (1 + n / 5) after n draws a chain. Where a density's coordinates are well
chosen, thousands of estimated centres and scales are mostly noise, which alone would bound the step size:
those of the diagonal are shrunk to 0 and to their common value as far as the two halves of the chains do not
agree about them. The momenta of y are standard normal.
"""

from __future__ import annotations

import torch
from torch import Tensor

_LEAST, _WEIGHT = 1e-3, 5.0  # Stan's (Carpenter et al. 2017, doi:10.18637/jss.v076.i01), of a chain's draws


class Scales:
    """z = centre + M y, of B observations.

    Args:
        centre: (B, size).
        root: lower-triangular blocks of the parameters, (B, P, P).
        scale: standard deviations of the other coordinates, (B, size - P).
    """

    def __init__(self, centre: Tensor, root: Tensor, scale: Tensor) -> None:
        self.centre, self.root, self.scale = centre, root, scale
        # As long as a draw, so that one pass over all coordinates does.
        self._scales = torch.cat([torch.ones_like(centre[:, : root.shape[-1]]), scale], -1)

    @classmethod
    def unit(cls, count: int, size: int, parameters: int, device: torch.device) -> Scales:
        """No centre and M = 1."""
        centre = torch.zeros(count, size, dtype=torch.float64, device=device)
        root = torch.eye(parameters, dtype=torch.float64, device=device).repeat(count, 1, 1)
        return cls(centre, root, torch.ones_like(centre[:, parameters:]))

    def to(self, dtype: torch.dtype) -> Scales:
        """The same in another precision."""
        return Scales(self.centre.to(dtype), self.root.to(dtype), self.scale.to(dtype))

    def to_coordinates(self, y: Tensor) -> Tensor:
        """z of y (chains, B, size)."""
        count = self.root.shape[-1]
        z = torch.addcmul(self.centre, self._scales, y)
        z[..., :count] = self.centre[:, :count] + _times(self.root, y[..., :count])
        return z

    def from_coordinates(self, z: Tensor) -> Tensor:
        """y of z (chains, B, size)."""
        count = self.root.shape[-1]
        y = (z - self.centre).div_(self._scales)
        first = y[..., :count].unsqueeze(-1)
        y[..., :count] = torch.linalg.solve_triangular(self.root, first, upper=False).squeeze(-1)
        return y

    def to_scaled(self, gradient: Tensor) -> Tensor:
        """M^T g, the gradient by y, for g (chains, B, size)."""
        count = self.root.shape[-1]
        scaled = gradient * self._scales
        scaled[..., :count] = _times(self.root.mT, gradient[..., :count])
        return scaled

    def select(self, rows: Tensor) -> Scales:
        """Those of some observations."""
        return Scales(self.centre[rows], self.root[rows], self.scale[rows])


class RunningMoments:
    """Moments of draws as they come, of each half of the chains apart.

    Args:
        count: B.
        size: coordinates.
        parameters: how many of them, the first ones, are parameters'.
        device: where to compute.
    """

    def __init__(self, count: int, size: int, parameters: int, device: torch.device) -> None:
        self._parameters = parameters
        self._draws = self._chains = 0
        self._sums = torch.zeros(2, count, size, dtype=torch.float64, device=device)
        self._squares = torch.zeros_like(self._sums)
        self._products = torch.zeros(count, parameters, parameters, dtype=torch.float64, device=device)

    def add(self, z: Tensor) -> None:
        """One draw of every chain, (chains, B, size), an even number of them."""
        self._chains = len(z)
        self._draws += len(z)
        halves = z.unflatten(0, (2, -1))
        self._sums += halves.sum(1)
        self._squares += halves.square().sum(1)
        first = z[..., : self._parameters].transpose(0, 1)
        self._products += first.mT @ first

    def scales(self) -> Scales:
        """Centre and M of what was added."""
        least = _LEAST / (1.0 + self._draws / (_WEIGHT * self._chains))
        mean = self._sums.sum(0)[:, : self._parameters] / self._draws
        covariance = self._products / self._draws - mean.unsqueeze(-1) * mean.unsqueeze(-2)
        unit = torch.eye(self._parameters, dtype=torch.float64, device=mean.device)
        root = torch.linalg.cholesky(covariance + least * unit)
        means = self._sums[..., self._parameters :] / (0.5 * self._draws)
        squares = self._squares[..., self._parameters :] / (0.5 * self._draws)
        logs = (squares - means.square() + least).log()
        common = logs.mean((0, -1)).unsqueeze(-1) if logs.shape[-1] else 0.0
        centre = torch.cat([mean, _shrunk(means)], -1)
        return Scales(centre, root, (0.5 * (common + _shrunk(logs - common))).exp())


def _times(block: Tensor, x: Tensor) -> Tensor:
    """Matrices (B, P, P) times vectors (chains, B, P)."""
    return (block @ x.unsqueeze(-1)).squeeze(-1)


def _shrunk(halves: Tensor) -> Tensor:
    """The mean of two independent estimates (2, B, n) of n numbers, shrunk to 0 as far as they are noise.

    Their correlation r over the n numbers gives the share to keep, 2 r / (1 + r) (Spearman 1910,
    doi:10.1111/j.2044-8295.1910.tb00206.x; Brown 1910), as a normal prior of unknown width would.
    """
    product = halves.prod(0).sum(-1, keepdim=True)
    power = 0.5 * halves.square().sum((0, -1)).unsqueeze(-1)
    r = (product / power.clamp_min(torch.finfo(power.dtype).tiny)).clamp(0.0, 1.0)
    return 2.0 * r / (1.0 + r) * halves.mean(0)
