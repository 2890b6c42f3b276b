"""Quadratic polynomials of the parameters, fitted by least squares or as a Gamma regression."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.special import ndtr

from sbikit.learning import LeastSquares

# Of the features' own squares: keeps the solution finite where two features are the same, and moves it by a
# millionth of itself where they are not.
RIDGE = 1e-6
# Bounds on a Gamma regression's steps: a mean e^6 = 400 times the average, or, at first, an observation five
# times its mean, counts as no more, lest a first guess that is far off run away. Nearer ones would take more
# steps; to the end, the second would make means of single squared amplitudes 6 % too small.
_FARTHEST = 6.0
_LARGEST = 4.0
# Of a Gamma regression, and how many have the second bound. They leave the logarithm of the quick preset's
# spectra within 4e-6 of where it would end; two more gain a factor of seven.
_ITERATIONS, _BOUNDED = 12, 6


def quadratic(u: Tensor) -> Tensor:
    """1, u_i and u_i u_j (i <= j): (..., P) -> (..., 1 + P + P (P + 1) / 2)."""
    size = u.shape[-1]
    row, column = torch.triu_indices(size, size)
    return torch.cat([torch.ones_like(u[..., :1]), u, u[..., row] * u[..., column]], dim=-1)


class Quadratic(nn.Module):
    """The features of `quadratic`, of scalars in coordinates in which they are natural.

    What depends smoothly on a parameter with a uniform law does not on its white coordinate, which the law's
    bounds stretch: a spectrum's slope in that of S8 changes fivefold between the middle and 1.7 standard
    deviations. A scalar whose law has two bounds is taken by its rank, of variance one,
    sqrt(12) (Phi(u) - 1 / 2); of a uniform law that is the parameter itself.

    Args:
        bounded: which of the P scalars are such, (P,).
    """

    bounded: Tensor

    def __init__(self, bounded: Tensor) -> None:
        super().__init__()
        self.register_buffer("bounded", bounded, persistent=False)
        self.scalars = len(bounded)
        self.count = 1 + self.scalars + self.scalars * (self.scalars + 1) // 2

    def forward(self, u: Tensor) -> Tensor:
        """Of white scalars (..., P) the features (..., count)."""
        return quadratic(self.natural(u))

    def natural(self, u: Tensor) -> Tensor:
        """White scalars (..., P) in natural coordinates."""
        return torch.where(self.bounded, math.sqrt(12.0) * (ndtr(u) - 0.5), u)


def fit_least_squares(features: Tensor, target: Tensor) -> Tensor:
    """Coefficients (F, R) of `features @ coefficients` nearest to `target`; (M, F), (M, R), float64."""
    found = least_squares()
    found.add(features, target)
    return found.solution()


def least_squares() -> LeastSquares:
    """The same of rows that come in parts."""
    return LeastSquares(RIDGE)


def fit_gamma(features: Tensor, target: Tensor) -> Tensor:
    """Coefficients (F, R) of a Gamma regression with log link, E[target] = exp(features @ coefficients).

    The mean of squared amplitudes of a Gaussian field is Gamma distributed; with a log link the
    weights of iteratively reweighted least squares are all one (McCullagh and Nelder 1989, ch. 8).

    Args:
        features: (M, F), float64.
        target: (M, R), positive, float64.
    """
    scale = target.mean(0)
    coefficients = torch.zeros(features.shape[1], target.shape[1], dtype=target.dtype)
    for i in range(_ITERATIONS):
        linear = (features @ coefficients).clamp(-_FARTHEST, _FARTHEST)
        step = target / scale * torch.exp(-linear) - 1.0
        if i < _BOUNDED:
            step = step.clamp(max=_LARGEST)
        coefficients = fit_least_squares(features, linear + step)
    coefficients[0] += torch.log(scale)
    return coefficients
