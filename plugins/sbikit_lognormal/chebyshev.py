"""Chebyshev polynomials on [-1, 1]: values, and regression of many functions in several variables.

Regression is by least squares on all products of polynomials up to a total degree, at points that lie denser
at the ends as the roots of one polynomial do, since there the error of even points would be largest.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.stats import qmc
from torch import Tensor


def polynomials(x: Tensor, terms: int) -> Tensor:
    """Chebyshev polynomials (..., terms) at x (...), by their recurrence."""
    values = [torch.ones_like(x), x]
    for _ in range(terms - 2):
        values.append(2.0 * x * values[-1] - values[-2])
    return torch.stack(values[:terms], -1)


def exponents(variables: int, degree: int) -> Tensor:
    """The orders of all products up to a total degree, (terms, variables)."""
    grid = np.indices((degree + 1,) * variables).reshape(variables, -1).T
    return torch.from_numpy(grid[grid.sum(1) <= degree])


def scattered(count: int, variables: int) -> Tensor:
    """The first points of a Sobol sequence, denser at the ends, (count, variables), float64, in [-1, 1]."""
    sobol = qmc.Sobol(variables, scramble=True, rng=np.random.default_rng(0))
    u = sobol.random_base2(math.ceil(math.log2(count)))[:count]
    return torch.from_numpy(-np.cos(np.pi * u))


def regression(features: Tensor, targets: Tensor, checks: int) -> tuple[Tensor, Tensor]:
    """Least squares at all points but the last ones, which check.

    Args:
        features: products of polynomials, (points, terms).
        targets: the functions, (points, outputs).
        checks: how many points check.

    Returns:
        Coefficients (terms, outputs), and what they give where they were not fitted, (checks, outputs).
    """
    solution = torch.linalg.lstsq(features[:-checks], targets[:-checks]).solution
    return solution, features[-checks:] @ solution
