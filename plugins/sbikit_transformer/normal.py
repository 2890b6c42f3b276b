"""Laws of the scalars, one an observation: normal ones along their own axes, and mixtures of these."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

# Least variance along an axis, in units of the prior's: far below what a network of float32 resolves.
LEAST_VARIANCE = 1e-10
# Least variance of an innovation, in units of the noise: where the noise is so far below the posterior's
# width, nothing is left to correct.
_LEAST_INNOVATION = 1e-3


def pairs(size: int) -> int:
    """How many pairs there are of so many numbers."""
    return size * (size - 1) // 2


def triangular(numbers: Tensor, size: int, most: float) -> Tensor:
    """Numbers (..., size (size + 1) / 2), row by row, to lower triangles (..., size, size), on whose
    diagonals they are logarithms, of at most `most`.
    """
    row, column = torch.tril_indices(size, size)
    lower = numbers.new_zeros(*numbers.shape[:-1], size, size)
    lower[..., row, column] = numbers
    diagonal = lower.diagonal(dim1=-2, dim2=-1).clamp(-most, most).exp()
    return lower.tril(-1) + torch.diag_embed(diagonal)


def innovation(unexpected: Tensor, sd: Tensor, sigma: Tensor) -> Tensor:
    """What of noisy numbers was not expected, in units of its expected spread.

    Args:
        unexpected: noisy numbers less their denoised ones.
        sd: expected standard deviations v^(1/2) of the clean ones, given the noisy.
        sigma: of the noise. Of a normal posterior the spread is sqrt(sigma^2 - v).
    """
    noise = sigma.square()
    return unexpected * (noise - sd.square()).clamp_min(_LEAST_INNOVATION * noise).rsqrt()


@dataclass(frozen=True)
class Normal:
    """Normal laws of B vectors.

    Args:
        mean: (B, P).
        variance: (B, P), along the axes.
        basis: (B, P, P), whose columns are the axes.
    """

    mean: Tensor
    variance: Tensor
    basis: Tensor

    @staticmethod
    def of(mean: Tensor, covariance: Tensor) -> Normal:
        """Of means (B, P) and covariances (B, P, P) in float64: vectors tied to each other leave directions
        that float32 does not resolve.
        """
        variance, basis = torch.linalg.eigh(covariance)
        variance = variance.clamp_min(LEAST_VARIANCE)
        return Normal(mean, variance.to(mean.dtype), basis.to(mean.dtype))

    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """All that it is made of, each (B, ...)."""
        return self.mean, self.variance, self.basis

    @property
    def covariance(self) -> Tensor:
        """(B, P, P), float64."""
        basis = self.basis.double()
        return (basis * self.variance.double()[:, None]) @ basis.mT

    @property
    def sd(self) -> Tensor:
        """Standard deviations of the scalars, (B, P)."""
        return (self.basis.square() @ self.variance[..., None])[..., 0].sqrt()

    def correlations(self) -> Tensor:
        """Above the diagonal, (B, P (P - 1) / 2)."""
        row, column = torch.triu_indices(self.mean.shape[1], self.mean.shape[1], offset=1)
        covariance = (self.basis * self.variance[:, None]) @ self.basis.mT
        sd = self.sd
        scale = (sd[:, row] * sd[:, column]).clamp_min(math.ulp(1.0))
        return (covariance[:, row, column] / scale).clamp(-1.0, 1.0)

    def alone(self) -> Mixture:
        """The mixture of this one law."""
        return Mixture(torch.zeros_like(self.mean[:, :1]), *(part[:, None] for part in self.parts()))

    def moments(self) -> Tensor:
        """Means, log standard deviations and correlations, (B, 2 P + P (P - 1) / 2)."""
        return torch.cat([self.mean, self.sd.log(), self.correlations()], 1)

    def log_density(self, at: Tensor) -> Tensor:
        """Of vectors (B, P), without the constant: (B,)."""
        along = ((at - self.mean)[:, None] @ self.basis)[:, 0]
        return -0.5 * (along.square() / self.variance + self.variance.log()).sum(1)


@dataclass(frozen=True)
class Mixture:
    """Mixtures of K normal laws of B vectors.

    Args:
        log_weight: (B, K), of weights whose sum is one.
        mean: (B, K, P).
        variance: (B, K, P), along the axes.
        basis: (B, K, P, P), whose columns are the axes.
    """

    log_weight: Tensor
    mean: Tensor
    variance: Tensor
    basis: Tensor

    def parts(self) -> tuple[Tensor, ...]:
        """All that it is made of, each (B, ...)."""
        return self.log_weight, self.mean, self.variance, self.basis

    def whole(self) -> Normal:
        """The normal laws of the same means and covariances."""
        weight = self.log_weight.double().exp()[..., None]
        mean = (weight * self.mean).sum(1)
        offset = self.mean.double() - mean[:, None]
        basis = self.basis.double()
        inside = (basis * self.variance.double()[..., None, :]) @ basis.mT
        covariance = (weight[..., None] * (inside + offset[..., None] * offset[..., None, :])).sum(1)
        return Normal.of(mean.to(self.mean.dtype), covariance)

    def log_density(self, at: Tensor) -> Tensor:
        """Of vectors (B, P), without the constant: (B,)."""
        return torch.logsumexp(self._log_shares(at, at.new_zeros(len(at))), 1)

    def given_noisy(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviations of vectors given x = vector + sigma e.

        Args:
            x: (B, P).
            sigma: (B,).

        Returns:
            (B, P) each.
        """
        noise = sigma.square()[:, None, None]
        gain = self.variance / (self.variance + noise)
        along = self._along(x) * gain
        means = self.mean + (self.basis @ along[..., None])[..., 0]
        share = torch.softmax(self._log_shares(x, sigma), 1)[..., None]
        mean = (share * means).sum(1)
        inside = (self.basis.square() @ (gain * noise)[..., None])[..., 0]
        variance = (share * (inside + (means - mean[:, None]).square())).sum(1)
        return mean, variance.sqrt()

    def _along(self, x: Tensor) -> Tensor:
        """Of vectors (B, P) what lies along the axes of each law, (B, K, P)."""
        return ((x[:, None] - self.mean)[..., None, :] @ self.basis)[..., 0, :]

    def _log_shares(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Log density of x = vector + sigma e of each law times its weight, without the constant, (B, K)."""
        variance = self.variance + sigma.square()[:, None, None]
        inside = self._along(x).square() / variance + variance.log()
        return self.log_weight - 0.5 * inside.sum(-1)
