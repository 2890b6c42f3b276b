"""The density that chains sample, of all observations of a batch or of those that are still under way."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sbikit import LogDensity

_LEAST_ROWS = 4  # MKL rounds products of fewer rows of float32 numbers otherwise than those of more
_MADE = 64  # densities of smaller batches that are kept: fewer are made anew more often, more take memory


class Target:
    """The log density of B observations.

    Args:
        density_of: the density of some of the observations, by their numbers.
        count: B.
    """

    def __init__(self, density_of: Callable[[list[int]], LogDensity], count: int) -> None:
        self._density_of, self._numbers = density_of, list(range(count))
        self._density = density_of(self._numbers)
        self._made: dict[tuple[int, ...], LogDensity] = {}

    @property
    def size(self) -> int:
        """Coordinates."""
        return self._density.size

    @property
    def parameters(self) -> int:
        """How many of them, the first ones, are parameters'."""
        return self._density.parameters

    @property
    def dtype(self) -> torch.dtype:
        """The precision in which chains move: that of the gradient."""
        return torch.float64 if self._density.gradient is None else torch.float32

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with some of the observations that are left, by their places among these."""
        self._numbers = [self._numbers[row] for row in rows]
        self._density = self._density_of(self._numbers)

    def value(self, z: Tensor) -> Tensor:
        """Log density (chains, B) at z (chains, B, size), minus infinity where it is not finite."""
        with torch.no_grad():
            value = self._density.log_prob(z.double())
        return value.masked_fill(~torch.isfinite(value), -torch.inf)

    def gradient(self, z: Tensor, rows: Sequence[int] | None = None) -> Tensor:
        """The gradient that chains follow, (chains, K, size); not finite where there is none.

        Args:
            z: where, (chains, K, size).
            rows: the K places among the observations that are left; None: all.
        """
        density = self._density if rows is None or len(rows) == len(self._numbers) else self._of(rows)
        if density.gradient is None:
            return _by_autograd(density, z)
        if z.shape[0] * z.shape[1] >= _LEAST_ROWS:
            return density.gradient(z)
        return density.gradient(torch.cat([z, z]))[: len(z)]

    def _of(self, rows: Sequence[int]) -> LogDensity:
        """The density of the observations in some places; once step sizes are fixed, few sets recur."""
        key = tuple(self._numbers[row] for row in rows)
        if key not in self._made:
            if len(self._made) >= _MADE:
                self._made.clear()
            self._made[key] = self._density_of(list(key))
        return self._made[key]


def _by_autograd(density: LogDensity, z: Tensor) -> Tensor:
    at = z.detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(density.log_prob(at).sum(), at)
    return gradient
