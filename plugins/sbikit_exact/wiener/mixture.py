"""A proposal that has learned a posterior's shape, in white coordinates z, in which the prior is N(0, 1).

    q(z) = a phi(z) + (1 - a) / m sum_j t(z; c_j, h^2 V),

a share of the prior (Hesterberg 1995, doi:10.1080/00401706.1995.10484303) and Student-t kernels on m points
of the posterior, V its covariance and h wider than is best for a density (Silverman 1986, section 4.3), so
that no point between kernels has a large weight w = L phi / q. Weights that so few points carry that they
tell no covariance are flattened to w^b, b < 1, until more do.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

LEAST_ESS = 100.0
"""Effective points that tell a covariance: its scales to 7 %, its directions in up to ten dimensions."""

_PRIOR_SHARE = 0.05  # no weight is then above 20 times the likelihood; one proposal in 20 pays for it
_WIDER = (
    1.4  # than Silverman's: a narrower kernel leaves gaps with large weights, a wider one is accepted less
)
_ROWS = 256  # points at once: their distances to 512 kernels, 1 MiB, stay in the processor's cache
_HALVINGS = 40  # of an interval: its end is then known to 1e-12 of it


@dataclass(frozen=True)
class Weighted:
    """Points and their weights.

    Args:
        z: white coordinates (Q, D).
        log_weight: log of the weights, (Q,), whatever their scale.
    """

    z: Tensor
    log_weight: Tensor

    def weights(self, power: float = 1.0) -> Tensor:
        """Weights to a power (Q,), of sum 1."""
        return torch.softmax(power * self.log_weight, 0)

    def ess(self, power: float = 1.0) -> float:
        """Effective number of points, (sum w)^2 / sum w^2."""
        return 1.0 / float(self.weights(power).square().sum())


class Mixture:
    """The proposal.

    Args:
        points: weighted points that it is made around.
        kernels: how many kernels.
        source: chooses their centres.
    """

    def __init__(self, points: Weighted, kernels: int, source: torch.Generator) -> None:
        D = points.z.shape[1]
        weights = _flattened(points)
        mean = weights @ points.z
        apart = points.z - mean
        width = _WIDER * (4.0 / ((D + 2.0) * kernels)) ** (1.0 / (D + 4.0))
        self._root = width * torch.linalg.cholesky(apart.T @ (weights[:, None] * apart))
        self._centres = points.z[torch.multinomial(weights, kernels, replacement=True, generator=source)]
        # Tails heavier than a normal posterior's; an even sum with D, so that the density is a whole power.
        self._freedom = 4 + D % 2
        normal = math.lgamma(0.5 * (self._freedom + D)) - math.lgamma(0.5 * self._freedom)
        scale = 0.5 * D * math.log(self._freedom * math.pi) + float(self._root.diagonal().log().sum())
        self._peak = math.exp(normal - scale) / kernels

    def sample(self, count: int, source: torch.Generator) -> Tensor:
        """Points (count, D)."""
        D = self._centres.shape[1]
        z, chi = torch.randn(count, D + self._freedom, generator=source, dtype=torch.float64).split(
            [D, self._freedom], 1
        )
        far = (z @ self._root.T) * (self._freedom / chi.square().sum(1, keepdim=True)).sqrt()
        chosen = torch.randint(len(self._centres), (count,), generator=source)
        from_prior = torch.rand(count, 1, generator=source, dtype=torch.float64) < _PRIOR_SHARE
        return torch.where(from_prior, z, self._centres[chosen] + far)

    def log_density(self, z: Tensor) -> Tensor:
        """log q (Q,) at points (Q, D)."""
        kernels = torch.cat([self._kernels(part) for part in z.split(_ROWS)])
        return torch.log(_PRIOR_SHARE * log_normal(z).exp() + (1.0 - _PRIOR_SHARE) * kernels)

    def _kernels(self, z: Tensor) -> Tensor:
        """The density of the kernels alone, (Q,)."""
        own, theirs = self._round(z), self._round(self._centres)
        square = own.square().sum(1, keepdim=True) + theirs.square().sum(1) - 2.0 * own @ theirs.T
        near = (1.0 + square.clamp_(min=0.0) / self._freedom).reciprocal_()
        return self._peak * near.pow_((self._freedom + z.shape[1]) // 2).sum(1)

    def _round(self, z: Tensor) -> Tensor:
        """Coordinates (Q, D) in which the kernels are round."""
        return torch.linalg.solve_triangular(self._root, z.T, upper=False).T


def log_normal(z: Tensor) -> Tensor:
    """log phi (Q,) of points (Q, D)."""
    return -0.5 * (z.square().sum(1) + z.shape[1] * math.log(2.0 * math.pi))


def largest(fits: Callable[[float], bool], low: float, high: float) -> float:
    """The largest number from `low` to `high` that fits, where all smaller ones do."""
    if fits(high):
        return high
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _flattened(points: Weighted) -> Tensor:
    """Weights (Q,) to the largest power up to 1 at which enough points carry them."""
    return points.weights(largest(lambda power: points.ess(power) >= LEAST_ESS, 1e-12, 1.0))
