"""The patch in the centre of a larger box."""

from __future__ import annotations

import torch
from torch import Tensor

from sbikit import SpecError


def cut(maps: Tensor, size: int) -> Tensor:
    """The central patch (..., N, N) of maps (..., M, M), M - N even; a view.

    Args:
        maps: the maps.
        size: pixels a side of the patch, N.

    Raises:
        SpecError: the patch cannot lie in the centre.
    """
    edge = _edge(maps.shape[-1], size)
    return maps[..., edge : edge + size, edge : edge + size]


def embed(maps: Tensor, size: int) -> Tensor:
    """Maps (..., M, M) that hold the patch (..., N, N) in their centre, M - N even, and 0 (masked) outside.

    Args:
        maps: the patch.
        size: pixels a side of the larger maps, M.

    Raises:
        SpecError: the patch cannot lie in the centre.
    """
    edge = _edge(size, maps.shape[-1])
    return torch.nn.functional.pad(maps, (edge, edge, edge, edge))


def _edge(box: int, patch: int) -> int:
    """Pixels between the sides of box and patch."""
    if box < patch or (box - patch) % 2:
        raise SpecError(
            "The patch cannot lie in the centre of the box.",
            where="patch and box",
            expected=f"a box wider than {patch} pixels by an even number, or as wide",
            got=f"{box} pixels",
            fix="make both even or both odd, the box not smaller",
        )
    return (box - patch) // 2
