"""Numbers that do not depend on the batch in which they were computed.

Matrix products, Fourier transforms and functions of many numbers at once round a row otherwise in one batch
than in another, and chains on their way to the posterior make of a difference of 1e-16 one of 1e-6 in five
transitions. But chains may follow any function of the coordinates, since they are accepted by the density
itself, and may be tuned by any figure that is near their acceptance. So what comes from a density in float64
is taken to a coarse grid: two numbers that differ by rounding alone come to the same point of it, but for one
pair in millions. In float32 one pair in thousands would not, and nothing is gained.
"""

from __future__ import annotations

import torch
from torch import Tensor

_STEP = 2.0**-10  # of forces and acceptances, both about 1: coarser costs acceptance, finer is met more often


def on_grid(x: Tensor) -> Tensor:
    """float64 numbers to the nearest of a grid; float32 ones as they are."""
    return (x / _STEP).round_().mul_(_STEP) if x.dtype == torch.float64 else x
