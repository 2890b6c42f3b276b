"""The modes 0 <= k_y, k_x <= N/2, of which the symmetries of the square make all others; H = N/2 + 1."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]


def at_lags(values: Tensor, lags: Tensor, square: tuple[int, ...]) -> Tensor:
    """Values at the distinct lags (..., n_lags), at the lags of a square (..., *square)."""
    return values.gather(-1, lags.expand(*values.shape[:-1], -1)).unflatten(-1, square)


def on_half_plane(quadrant: Tensor) -> Tensor:
    """Real factors (..., H, H) of the modes as those of the parts of an rfft2, (..., N, H, 2)."""
    plane = torch.cat([quadrant, quadrant[..., 1:-1, :].flip(-2)], -2)
    return torch.view_as_real(torch.complex(plane, plane))


def cosine_matrix(size: int) -> Array:
    """The type-1 cosine transform (H, H): the Fourier transform of a real, even function of N points."""
    k = np.arange(size // 2 + 1)
    return np.cos(2.0 * np.pi * (np.outer(k, k) % size) / size) * _twice(size)


def multiplicity(size: int) -> Array:
    """How many of the N x N modes each of the quadrant stands for, (H, H)."""
    return np.outer(_twice(size), _twice(size))


def _twice(size: int) -> Array:
    """How many of N wave numbers each of 0 to N/2 stands for, (H,)."""
    k = np.arange(size // 2 + 1)
    return np.where((k == 0) | (k == size // 2), 1.0, 2.0)
