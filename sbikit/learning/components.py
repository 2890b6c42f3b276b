"""Leading principal components: where things are, in few numbers."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

# Rows that find the components: the directions of K components are known where there are many more rows.
# More rows take more memory and, beyond the number of columns, only average.
_ROWS = 2048
# Of the largest component's standard deviation: a smaller one is the rounding of float32.
_ROUNDING = 1e-6
# Numbers of the rows that are held, 268 MB in float64. Products of all of them take as much again.
_HELD = 2**25


class PrincipalComponents(nn.Module):
    """Rows (B, N) to their K = min(N, most) leading principal components (B, K), of mean 0 and variance 1.

    Directions are kept to eight binary digits, as bfloat16, in half the space: of large maps they are most of
    what is written. Components differ by some thousandths of their standard deviation, whatever N.

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
        self.register_buffer("directions", torch.zeros(size, self.count, dtype=torch.bfloat16))

    def fit(self, rows: Tensor) -> None:
        """Find them in training rows (M, N), standardised; a component without variance stays zero."""
        self.fit_parts((rows,))

    def fit_parts(self, parts: Iterable[Tensor]) -> None:
        """The same in rows that come in parts, each (m, N); no more parts are read than are needed."""
        found, missing = Leading(self.count), _ROWS
        for rows in parts:
            found.add(rows[:missing])
            missing -= len(rows)
            if missing <= 0:
                break
        variance, directions = found.result()
        self.mean.copy_(found.mean)
        self.directions.zero_()
        self.directions[:, : len(variance)] = (directions / variance.sqrt()).bfloat16()

    def forward(self, rows: Tensor) -> Tensor:
        return (rows - self.mean) @ self.directions.to(rows.dtype)


class Leading:
    """Leading components of rows that come in parts.

    Of as many numbers as are held they are exact. Of more, rows seen are replaced by twice as many components
    as are wanted, and those go on with further rows (Ross et al. 2008, doi:10.1007/s11263-007-0075-7): what
    is lost is the variance along directions that were among the least so far.

    Args:
        most: the most components.
        centred: whether they are about zero already, and not about their mean.
        held: numbers that are held.
    """

    def __init__(self, most: int, *, centred: bool = False, held: int = _HELD) -> None:
        self._most, self._centred, self._limit = most, centred, held
        self._rows: list[Tensor] = []
        self._count = 0
        self._before = torch.zeros(0)

    mean: Tensor

    def add(self, rows: Tensor) -> None:
        """Further rows (m, N)."""
        self._rows.append(rows.double())
        if sum(part.numel() for part in self._rows) + self._before.numel() > self._limit:
            variance, directions = self._leading(2 * self._most)
            self._before = (variance * max(1, self._count - 1)).sqrt()[:, None] * directions.T

    def result(self) -> tuple[Tensor, Tensor]:
        """See `leading`; `mean` is that of all rows."""
        return self._leading(self._most)

    def _leading(self, most: int) -> tuple[Tensor, Tensor]:
        """Of all rows so far, which are forgotten."""
        scatter = [self._before] if len(self._before) else []
        if self._rows:
            rows = torch.cat(self._rows) if len(self._rows) > 1 else self._rows[0]
            self._rows = []
            mean = torch.zeros_like(rows[0]) if self._centred else rows.mean(0)
            scatter.append(rows - mean)
            if self._count:
                apart, total = mean - self.mean, self._count + len(rows)
                scatter.append((apart * (self._count * len(rows) / total) ** 0.5)[None])
                mean = self.mean + apart * (len(rows) / total)
            self.mean = mean
            self._count += len(rows)
        stacked = torch.cat(scatter) if len(scatter) > 1 else scatter[0]
        return leading(stacked, most, max(1, self._count - 1))


def leading(centred: Tensor, most: int, degrees: int | None = None) -> tuple[Tensor, Tensor]:
    """Variances (K,), falling, and orthonormal directions (N, K) of centred rows (M, N), float64.

    `degrees` of freedom are one less than rows where left out. K is at most `most`; components whose
    variance is rounding are left out. Signs are fixed: of each direction the entry largest in size is
    positive.
    """
    rows, columns = centred.shape
    degrees = max(1, rows - 1) if degrees is None else degrees
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
