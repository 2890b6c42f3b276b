"""Factors of the modes of the quadrant as those of the numbers that make them (field/white.py), and back."""

from __future__ import annotations

import torch
from torch import Tensor


def on_numbers(quadrant: Tensor) -> Tensor:
    """Real factors (..., H, H) of the modes as those of the numbers that make them, (..., N, N)."""
    parts = [1, quadrant.shape[-1] - 2, 1]
    first, inner, last = quadrant.split(parts, -1)
    columns = torch.cat([first, last, torch.stack([inner, inner], -1).flatten(-2)], -1)
    first, inner, last = columns.split(parts, -2)
    return torch.cat([first, inner, last, inner.flip(-2)], -2)


def on_quadrant(numbers: Tensor) -> Tensor:
    """The transpose of `on_numbers`: sums over the numbers (..., N, N) of each mode of the quadrant."""
    half = numbers.shape[-1] // 2 + 1
    rows = numbers[..., :half, :].clone()
    rows[..., 1:-1, :] += numbers[..., half:, :].flip(-2)
    inner = rows[..., 2::2] + rows[..., 3::2]
    return torch.cat([rows[..., :1], inner, rows[..., 1:2]], -1)
