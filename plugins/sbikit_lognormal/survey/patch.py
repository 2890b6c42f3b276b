"""The patch in the centre of a larger box."""

from __future__ import annotations

import torch
from torch import Tensor


def cut(maps: Tensor, size: int) -> Tensor:
    """The central patch (..., N, N) of maps (..., M, M), M - N even; a view.

    Args:
        maps: the maps.
        size: pixels a side of the patch, N.
    """
    edge = (maps.shape[-1] - size) // 2
    return maps[..., edge : edge + size, edge : edge + size]


def embed(maps: Tensor, size: int) -> Tensor:
    """Maps (..., M, M) that hold the patch (..., N, N) in their centre, M - N even, and 0 (masked) outside.

    Args:
        maps: the patch.
        size: pixels a side of the larger maps, M.
    """
    edge = (size - maps.shape[-1]) // 2
    return torch.nn.functional.pad(maps, (edge, edge, edge, edge))
