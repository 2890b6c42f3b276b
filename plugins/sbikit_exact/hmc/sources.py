"""Random numbers of the chains of several observations, those of each from a source of its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sbikit import generator


class Sources:
    """Where the random numbers of B observations come from.

    Args:
        seeds: one an observation.
        chains: chains an observation.
        device: where the numbers are wanted.
    """

    def __init__(self, seeds: Sequence[int], chains: int, device: torch.device) -> None:
        self._sources, self._chains, self._device = [generator(s, device) for s in seeds], chains, device

    def __len__(self) -> int:
        return len(self._sources)

    def normals(self, size: int, dtype: torch.dtype, rows: Sequence[int] | None = None) -> Tensor:
        """Standard normal numbers (chains, B, size), or for some of the observations."""
        sources = self._sources if rows is None else [self._sources[row] for row in rows]
        shape, device = (self._chains, size), self._device
        drawn = [torch.randn(shape, generator=source, dtype=dtype, device=device) for source in sources]
        return torch.stack(drawn, 1)

    def uniforms(self) -> Tensor:
        """Uniform numbers (chains, B), float64."""
        shape, device = (self._chains,), self._device
        drawn = [torch.rand(shape, generator=s, dtype=torch.float64, device=device) for s in self._sources]
        return torch.stack(drawn, 1)

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with some of the observations, by their places."""
        self._sources = [self._sources[row] for row in rows]
