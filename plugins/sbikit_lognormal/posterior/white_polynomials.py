"""Chebyshev polynomials of white coordinates t, and their derivatives.

x is 2 Phi(t) - 1 where the law is uniform, so that polynomials in the parameter are polynomials in x, and t /
4 elsewhere, constant beyond 4 sd. What is worked with is arccos x.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.special import ndtri

from sbikit import Prior, Uniform
from sbikit_lognormal.chebyshev import exponents, scattered

# Of three uniform laws degree 8 has 165 terms and an error of 9e-4 (factors.py), 10 has 286 and 8e-5, 12 has
# 455 and 6e-5; of four parameters 500 terms allow degree 7, which is too bad to use.
_MOST_TERMS = 500
_MOST_DEGREE = 10
# With 3 the gradient of the parameters is wrong by a fifth at draws from the prior, with 5 the fit is too bad
# to use.
_WIDEST = 4.0
_INSIDE = 1.0 - 1e-9  # of x, so that no point lies where t is infinite


class WhitePolynomials:
    """Products of polynomials in the coordinates of a prior, up to a total degree.

    Args:
        prior: of the parameters.
        device: where to compute.

    Attributes:
        terms: (D, terms), the order in each coordinate.
        orders: 0 to the highest.
    """

    def __init__(self, prior: Prior, device: torch.device) -> None:
        laws = prior.laws.values()
        self._uniform = torch.tensor([isinstance(law, Uniform) for law in laws], device=device)
        self.terms = exponents(len(laws), _degree(len(laws))).T.contiguous().to(device)
        self.orders = torch.arange(int(self.terms.max()) + 1, dtype=torch.float64, device=device)

    def scattered(self, count: int) -> Tensor:
        """Points t (count, D), denser at the ends of the region."""
        x = scattered(count, len(self._uniform)).clamp(-_INSIDE, _INSIDE).to(self._uniform.device)
        return torch.where(self._uniform, ndtri(0.5 * (1.0 + x)), _WIDEST * x)

    def angles(self, white: Tensor) -> tuple[Tensor, Tensor]:
        """arccos x and its derivative by t, of t (..., D), float64."""
        # ndtr is 0 below -8.3, too early for a ratio with the density.
        below, above = 0.5 * torch.erfc(white / math.sqrt(2.0)), 0.5 * torch.erfc(-white / math.sqrt(2.0))
        density = torch.exp(-0.5 * white.square()) / math.sqrt(2.0 * math.pi)
        tiny = torch.finfo(torch.float64).tiny
        uniform = 2.0 * torch.atan2(below.sqrt(), above.sqrt())
        uniform_slope = -density / (above * below).clamp_min(tiny).sqrt()
        x = (white / _WIDEST).clamp(-1.0, 1.0)
        inside = x.abs() < 1.0
        slope = torch.where(inside, -1.0 / (_WIDEST * (1.0 - x.square()).clamp_min(tiny).sqrt()), 0.0)
        return torch.where(self._uniform, uniform, x.acos()), torch.where(self._uniform, uniform_slope, slope)

    def features(self, white: Tensor) -> Tensor:
        """The products (..., terms) at t (..., D)."""
        angles, _ = self.angles(white)
        return product(self.pick((angles.unsqueeze(-1) * self.orders).cos()))

    def pick(self, values: Tensor) -> list[Tensor]:
        """Of each parameter, its values (..., D, orders) in every term, (..., terms)."""
        return [values[..., d, :].index_select(-1, order) for d, order in enumerate(self.terms)]


def product(values: Sequence[Tensor]) -> Tensor:
    """The product of tensors, at least one."""
    total = values[0]
    for value in values[1:]:
        total = total * value
    return total


def _degree(count: int) -> int:
    """The highest total degree of so many parameters that has not too many terms."""
    return max(d for d in range(_MOST_DEGREE + 1) if math.comb(d + count, count) <= _MOST_TERMS)
