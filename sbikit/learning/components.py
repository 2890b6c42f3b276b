"""Leading principal components: where things are, in few numbers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Rows that find the components: the directions of K components are known where there are many more rows.
# More rows take more memory and, beyond the number of columns, only average.
_ROWS = 2048
# Of the largest component's standard deviation: a smaller one is the rounding of float32.
_ROUNDING = 1e-6


class PrincipalComponents(nn.Module):
    """Rows (B, N) to their K = min(N, most) leading principal components (B, K), of mean 0 and variance 1.

    Args:
        size: N.
        most: the most components.
    """

    mean: Tensor
    directions: Tensor

    def __init__(self, size: int, most: int) -> None:
        super().__init__()
        self.count = min(size, most)
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("directions", torch.zeros(size, self.count))

    def fit(self, rows: Tensor) -> None:
        """Find them in training rows (M, N), standardised; a component without variance stays zero."""
        rows = rows[:_ROWS].double()
        mean = rows.mean(0)
        self.mean.copy_(mean)
        variance, directions = leading(rows - mean, self.count)
        self.directions.zero_()
        self.directions[:, : len(variance)] = (directions / variance.sqrt()).float()

    def forward(self, rows: Tensor) -> Tensor:
        return (rows - self.mean) @ self.directions


def leading(centred: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Variances (K,), falling, and orthonormal directions (N, K) of centred rows (M, N), float64.

    K is at most `most`; components whose variance is rounding are left out. Signs are fixed: of each
    direction the entry largest in size is positive.
    """
    rows, columns = centred.shape
    degrees = max(1, rows - 1)
    if columns <= rows:
        values, vectors = torch.linalg.eigh(centred.T @ centred / degrees)
    else:  # the other product has the same values, and is smaller
        values, vectors = torch.linalg.eigh(centred @ centred.T / degrees)
    values, vectors = values.flip(0)[:most], vectors.flip(1)[:, :most]
    kept = (values > 0) & (values > _ROUNDING**2 * values.max())
    values, vectors = values[kept], vectors[:, kept]
    if columns > rows:
        vectors = centred.T @ vectors / (values * degrees).sqrt()
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    return values, vectors * largest.sign()
