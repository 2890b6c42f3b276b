"""Means, variances, covariances and least squares of rows that come in parts, in float64.

Two sets of n and m rows with means a and b together have the sum of squared deviations

    S = S_a + S_b + n m / (n + m) (b - a)^2

(Chan, Golub and LeVeque 1983, doi:10.1080/00031305.1983.10483115), without the cancellation of a sum of
squares. One part alone gives what would be computed of it without parts, to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor


class Mean:
    """The mean of means."""

    def __init__(self) -> None:
        self.value = torch.zeros(())
        self._count = 0

    def add(self, mean: Tensor, count: int) -> None:
        """The mean, of any shape, of `count` further rows."""
        self._count += count
        step = count / self._count
        self.value = mean if step == 1.0 else self.value + (mean - self.value) * step


class Moments:
    """Mean, variance and largest size.

    Args:
        kept: how many axes after that of the rows, the first ones, have moments of their own.
    """

    def __init__(self, kept: int = 0) -> None:
        self._kept, self._count = kept, 0
        self.mean = self.variance = self.largest = torch.zeros((), dtype=torch.float64)

    def add(self, x: Tensor) -> None:
        """Further rows (m, *shape)."""
        values = x.double()
        over = (0, *range(1 + self._kept, x.ndim))
        largest = values.abs().amax(over)
        count = x.numel() // max(1, largest.numel())
        # A set of one has no variance of its own.
        variance, mean = torch.var_mean(values, over, correction=1 if count > 1 else 0)
        if self._count:
            mean, variance = self._merged(mean, variance, count)
            largest = torch.maximum(largest, self.largest)
        self.mean, self.variance, self.largest = mean, variance, largest
        self._count += count

    def _merged(self, mean: Tensor, variance: Tensor, count: int) -> tuple[Tensor, Tensor]:
        n, m = self._count, count
        apart = mean - self.mean
        squares = self.variance * (n - 1) + variance * (m - 1) + apart.square() * (n * m / (n + m))
        return self.mean + apart * (m / (n + m)), squares / (n + m - 1)


class LeastSquares:
    """Coefficients (F, R) of `features @ coefficients` nearest to `target`, by its normal equations.

    Args:
        ridge: of the features' own squares: keeps the solution finite where two features are the same.
    """

    def __init__(self, ridge: float) -> None:
        self._ridge, self._count = ridge, 0
        self._squares = self._products = self._own = torch.zeros(())

    def add(self, features: Tensor, target: Tensor) -> None:
        """Further rows (m, F) and (m, R), float64."""
        squares, products = features.T @ features, features.T @ target
        own = target.square().sum(0)
        first = self._count == 0
        self._squares = squares if first else self._squares + squares
        self._products = products if first else self._products + products
        self._own = own if first else self._own + own
        self._count += len(features)

    def solution(self) -> Tensor:
        """(F, R), float64."""
        size = len(self._squares)
        ridge = self._ridge * self._count * torch.eye(size, dtype=self._squares.dtype)
        return torch.linalg.solve(self._squares + ridge, self._products)

    def cross_validated(self, ridges: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
        """The solution of the best of several ridges, chosen for each target by generalised cross-validation.

        Of N rows that found f coefficients, the trace of the hat matrix, squares of what is left are expected
        to be (1 - f / N)^2 times those of other rows (Golub, Heath and Wahba 1979, Technometrics 21, 215).

        Args:
            ridges: to choose from, each of every feature, (F,), in place of that of all.

        Returns:
            Coefficients (F, R), and that share (R,), float64.
        """
        best, share = torch.zeros_like(self._products), torch.ones_like(self._own)
        least = torch.full_like(self._own, math.inf)
        for ridge in ridges:
            inverse = torch.linalg.inv(self._squares + self._count * torch.diag(ridge.double()))
            found = inverse @ self._products
            left = self._own + (found * (self._squares @ found - 2.0 * self._products)).sum(0)
            free = float((inverse * self._squares).sum())
            own = max(1.0 - free / self._count, 1.0 / self._count) ** 2
            fewer = left / own < least
            least, share = torch.where(fewer, left / own, least), torch.where(fewer, own, share)
            best = torch.where(fewer, found, best)
        return best, share
