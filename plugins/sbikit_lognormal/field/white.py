"""White modes from real numbers, and back, without a Fourier transform."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def white_modes(w: Tensor) -> Tensor:
    """White modes (..., N, N/2+1), as rfft2 of a map of standard normal numbers has, without a transform.

    The N^2 numbers are the orthonormal cosine and sine coefficients of that map: column pairs (2 m, 2 m + 1)
    are the real and imaginary parts at k_x = m, and the first pair holds the modes of k_x = 0 and of the
    Nyquist column, each as a Hartley transform along k_y.

    Args:
        w: standard normal numbers (..., N, N), contiguous.
    """
    size = w.shape[-1]
    pairs = torch.view_as_complex(w.unflatten(-1, (size // 2, 2)))
    modes = torch.empty(*w.shape[:-1], size // 2 + 1, dtype=pairs.dtype, device=w.device)
    modes[..., 1:-1] = pairs[..., 1:]
    columns = w[..., :2]
    mirrored = torch.cat([columns[..., :1, :], columns[..., 1:, :].flip(-2)], -2)
    modes[..., :: size // 2] = torch.complex(mirrored + columns, mirrored - columns) * math.sqrt(0.5)
    return modes.mul_(size * math.sqrt(0.5))


def white_numbers(modes: Tensor) -> Tensor:
    """The numbers (..., N, N) of which `white_modes` makes these modes.

    Args:
        modes: rfft2 of real maps, (..., N, N/2+1), complex.
    """
    size = modes.shape[-2]
    modes = modes / (size * math.sqrt(0.5))
    inner = torch.view_as_real(modes[..., 1:-1].contiguous())
    columns = modes[..., :: size // 2]
    edge = (columns.real - columns.imag) * math.sqrt(0.5)
    return torch.cat([edge.unsqueeze(-2), inner], -2).flatten(-2)
