"""Roots of the bins' power in each mode.

In each mode the powers of the bins are a matrix S = U U^T with U upper triangular, and

    G = irfft2(U rfft2(z))

for white z. Such fields exist if and only if no S has a negative eigenvalue: a negative pivot, of one bin
alone or of bins too strongly correlated, is reported and never mended in silence.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sbikit_lognormal.field.quadrant import on_half_plane


def upper_root(power: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """U with U U^T = S, in the place of S, and the lowest pivot, (...), minus infinity where it is NaN.

    Eliminating the last bin first leaves every row of pairs contiguous.

    Args:
        power: S, (..., pairs, H, H); overwritten where no gradient is asked for.
        variance: v, (..., bins).
    """
    bins = variance.shape[-1]
    rows = [power[..., _pairs_of(i), :, :] for i in range(bins)]
    lowest = torch.full_like(variance[..., 0], torch.inf, requires_grad=False)
    for i in reversed(range(bins)):
        pivot = rows[i][..., i:, :, :]
        lowest = _lower(lowest, pivot.detach().amin((-3, -2, -1)) / variance[..., i].detach())
        rows[i] = torch.mul(rows[i], torch.rsqrt(pivot), out=reuse(rows[i]))
        for k in range(i):
            column = rows[i][..., k : k + 1, :, :]
            rows[k] = torch.addcmul(
                rows[k], column, rows[i][..., : k + 1, :, :], value=-1.0, out=reuse(rows[k])
            )
    root = torch.cat(rows, -3) if power.requires_grad else power
    return root, lowest.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)


def _lower(lowest: Tensor, pivot: Tensor) -> Tensor:
    """The lower of two pivots (...), unless the first has failed: what follows a failure holds no sense."""
    return torch.where(lowest > 0, torch.minimum(lowest, pivot), lowest)


def mixed(white: Tensor, root: Tensor) -> Tensor:
    """U times white modes, of the same shape.

    Args:
        white: white modes (..., bins, N, H), complex.
        root: U, (..., pairs, H, H).
    """
    numbers = torch.view_as_real(white)
    last = white.shape[-3] - 1
    total = on_half_plane(root[..., _pairs_of(last), :, :]) * numbers[..., last:, :, :, :]
    for i in reversed(range(last)):
        row = on_half_plane(root[..., _pairs_of(i), :, :])
        total[..., : i + 1, :, :, :].addcmul_(row, numbers[..., i : i + 1, :, :, :])
    return torch.view_as_complex(total)


def _pairs_of(i: int) -> slice:
    """Where the pairs (i, 0) to (i, i) stand."""
    return slice(i * (i + 1) // 2, (i + 1) * (i + 2) // 2)


def reuse(result: Tensor, *others: Tensor) -> Tensor | None:
    """`result` as the place to write to, unless a gradient needs it as it is."""
    return None if any(tensor.requires_grad for tensor in (result, *others)) else result
