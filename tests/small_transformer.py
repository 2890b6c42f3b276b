"""A transformer of width 16 and one block, for tests of its heads."""

from __future__ import annotations

import torch

from sbikit_transformer.network import Transformer


def small_transformer(
    grid: tuple[int, ...] = (8, 8), *, channels_out: int = 1, periodic: bool = False
) -> Transformer:
    """Of 3 field inputs, 2 scalars of 3 features and a summary of 6 numbers; patches have 4 pixels a side."""
    with torch.random.fork_rng(devices=[]):
        return Transformer(
            grid=grid,
            patch=(4,) * len(grid),
            channels_in=3,
            channels_out=channels_out,
            scalars=2,
            scalar_features=3,
            summary=6,
            width=16,
            depth=1,
            heads=2,
            periodic=periodic,
        )
