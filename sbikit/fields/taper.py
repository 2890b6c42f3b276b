"""A taper for fields whose grid does not close on itself: their edges would else put power into all modes."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def hann(grid: tuple[int, ...]) -> Tensor:
    """The product over the axes of Hann windows sin^2(pi (i + 1/2) / n), with mean square 1, (*grid) float64.

    White noise keeps its power under it (Harris 1978, Proc. IEEE 66, 51). An axis of less than three pixels
    is left as it is.
    """
    window = torch.ones(grid, dtype=torch.float64)
    for axis, n in enumerate(grid):
        if n > 2:
            line = torch.sin(math.pi * (torch.arange(n, dtype=torch.float64) + 0.5) / n).square()
            window = window * line.view(-1, *(1,) * (len(grid) - 1 - axis))
    return window / window.square().mean().sqrt()


def tapered(field: Tensor, axes: int) -> Tensor:
    """Fields (*batch, *grid), without their mean over the last `axes` axes, times `hann`."""
    window = hann(tuple(field.shape[-axes:])).to(field)
    return (field - field.mean(tuple(range(-axes, 0)), keepdim=True)) * window
