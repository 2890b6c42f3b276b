r"""The few combinations of many numbers that tell of the scalars.

Of what is told of data, W numbers x, the mean given P scalars is taken to be B^T f(u), with f polynomials of
their ranks, and the covariance D around it the same everywhere. Then

    R^T x,   D R = (B^T C B) R diag(l),   R^T D R = 1,

with C the covariance of f, is all that x tells: principal fitted components (Cook and Forzani 2008,
Statistical Science 23, 485), each with l times as much signal as noise. Means are smooth in the scalars and
known well, D comes from all simulations at once, so far fewer are needed than to find by the scalars' own
regression on x what tells most where; and a score in any point (Alsing and Wandelt 2018, arXiv:1712.00012),
df/du^T B D^-1 x, is linear in them.
"""

from __future__ import annotations

import math
from itertools import product

import torch
from torch import Tensor, nn
from torch.special import ndtr

from sbikit.learning import LeastSquares, Mean, Standardise
from sbikit_transformer.conditions import FARTHEST

COMPONENTS = 16
# Polynomials up to this degree, and no more than so many.
_DEGREE, _MOST_POLYNOMIALS = 5, 100
# Ridges tried, in units of the numbers' variances around their means.
_RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
_LEAST_VARIANCE = 1e-6  # of a number around its mean, in units of its spread
_NO_FUNCTION = 1e-9  # eigenvalue of C that is rounding, and ridge of the scalars' regression on components
_AT_ONCE = 8192


class FittedComponents(nn.Module):
    """Up to `COMPONENTS` combinations of what is told of data.

    Args:
        scalars: P.
        told: length of what is told of data, W.

    Attributes:
        directions: R, (W, `count`), each with noise of one; zero beyond what the polynomials allow.
    """

    directions: Tensor

    def __init__(self, scalars: int, told: int) -> None:
        super().__init__()
        self._powers = powers(scalars)
        self.count = min(COMPONENTS, told, len(self._powers))
        self.register_buffer("directions", torch.zeros(told, self.count))
        self.scale = Standardise(self.count)

    def fit(self, u: Tensor, told: Tensor, judges: int) -> None:
        """Fit to simulations, the first of which judge how large a ridge is best and do not teach.

        Args:
            u: (M, P) white scalars.
            told: (M, W), standardised.
            judges: how many judge.
        """
        some, taught = slice(0, judges), slice(judges, None)
        moments = _moments(polynomials(u[taught], self._powers), told[taught])
        least = math.inf
        for ridge in _RIDGES:
            directions = _directions(*moments, ridge, self.count)
            slopes = _regression(told[taught], directions, u[taught])
            left = u[some].double() - _with_one(told[some].double() @ directions) @ slopes
            if (found := float(left.square().mean())) < least:
                least = found
                self.directions.copy_(directions)
        self.scale.fit(self._plain(told[taught]))

    def forward(self, told: Tensor) -> Tensor:
        """Of what is told (B, W) the components, (B, R), standardised, those of most signal first."""
        return self.scale(self._plain(told)).clamp(-FARTHEST, FARTHEST)

    def _plain(self, told: Tensor) -> Tensor:
        return torch.cat([rows.float() @ self.directions for rows in told.split(_AT_ONCE)])


def mean_of_rows(numbers: Tensor) -> Tensor:
    """Of many rows (M, W) the mean (W,), float64, without another copy of them."""
    found = Mean()
    for rows in numbers.split(_AT_ONCE):
        found.add(rows.double().mean(0), len(rows))
    return found.value


def powers(scalars: int) -> list[tuple[int, ...]]:
    """Degrees of each polynomial in each of P scalars: all of a total degree from 1 up to `_DEGREE`, or to
    the largest at which there are no more than `_MOST_POLYNOMIALS`, at least 1.
    """
    degree = next((d for d in range(_DEGREE, 1, -1) if math.comb(scalars + d, d) <= _MOST_POLYNOMIALS + 1), 1)
    if degree == 1:
        return [tuple(int(i == j) for j in range(scalars)) for i in range(scalars)]
    return [each for each in product(range(degree + 1), repeat=scalars) if 0 < sum(each) <= degree]


def polynomials(u: Tensor, degrees: list[tuple[int, ...]]) -> Tensor:
    """Products of Legendre polynomials of the ranks 2 Phi(u) - 1 of white scalars (M, P): (M, F), float64."""
    x = 2.0 * ndtr(u.double()) - 1.0
    found = [torch.ones_like(x), x]
    for n in range(1, max(max(each) for each in degrees)):
        found.append(((2 * n + 1) * x * found[n] - n * found[n - 1]) / (n + 1))
    return torch.stack([math.prod(found[n][:, i] for i, n in enumerate(each)) for each in degrees], 1)


def _moments(functions: Tensor, told: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Covariances of functions (M, F), of them with numbers (M, W), and of numbers, in float64."""
    mean_f, mean = functions.mean(0), mean_of_rows(told)
    shapes = (
        (functions.shape[1], functions.shape[1]),
        (functions.shape[1], told.shape[1]),
        (told.shape[1],) * 2,
    )
    own, products, squares = (torch.zeros(*shape, dtype=torch.float64) for shape in shapes)
    for some, rows in zip(functions.split(_AT_ONCE), told.split(_AT_ONCE), strict=True):
        f, x = some - mean_f, rows.float() - mean.float()
        own += f.T @ f
        products += f.T @ x.double()
        squares += (x.T @ x).double()
    return own / len(told), products / len(told), squares / len(told)


def _directions(own: Tensor, products: Tensor, squares: Tensor, ridge: float, count: int) -> Tensor:
    """Columns of R, (W, count)."""
    values, basis = torch.linalg.eigh(own)
    kept = values > _NO_FUNCTION * values[-1]
    # Of functions that are uncorrelated and of variance one, their covariances with the numbers: (F, W).
    signal = (basis[:, kept] * values[kept].rsqrt()).T @ products
    around = squares - signal.T @ signal
    variance = around.diagonal().clamp_min(0.0) + _LEAST_VARIANCE
    around = around + torch.diag(ridge * variance + _LEAST_VARIANCE)
    root = torch.linalg.cholesky(around)
    white = torch.linalg.solve_triangular(root, signal.T, upper=False)
    left = torch.linalg.svd(white, full_matrices=False).U[:, :count]
    found = products.new_zeros(len(root), count)
    found[:, : left.shape[1]] = torch.linalg.solve_triangular(root.T, left, upper=True)
    return found


def _regression(told: Tensor, directions: Tensor, u: Tensor) -> Tensor:
    """Slopes of scalars (M, P) on one and the components, (1 + R, P), by least squares."""
    found = LeastSquares(_NO_FUNCTION)
    for rows, target in zip(told.split(_AT_ONCE), u.split(_AT_ONCE), strict=True):
        found.add(_with_one(rows.double() @ directions), target.double())
    return found.solution()


def _with_one(components: Tensor) -> Tensor:
    return torch.cat([torch.ones_like(components[:, :1]), components], 1)
