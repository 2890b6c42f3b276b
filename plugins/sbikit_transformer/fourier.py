"""Isotropic statistics of periodic fields on a grid, in rings of equal |k|.

All transforms are orthonormal, so the power of white noise of variance s^2 is s^2 in every mode.
"""

from __future__ import annotations

import torch
from torch import Tensor

_EXACT = 6


class Rings(torch.nn.Module):
    """Assigns the modes of a real FFT to rings of integer radius.

    Args:
        grid: pixels along each axis. The radius is counted in units of the lowest mode of the
            longest axis; mode zero has a ring of its own.

    Attributes:
        index: (modes,) ring of each mode of the flattened half-plane.
        weight: (modes,) how often the mode stands in the full plane, 1 or 2.
        count: (rings,) modes of the full plane in each ring, the degrees of freedom.
    """

    index: Tensor
    weight: Tensor
    count: Tensor

    def __init__(self, grid: tuple[int, ...]) -> None:
        super().__init__()
        self.grid = grid
        self.axes = tuple(range(-len(grid), 0))
        longest = max(grid)
        axes = [torch.fft.fftfreq(n) * longest for n in grid[:-1]]
        axes.append(torch.fft.rfftfreq(grid[-1]) * longest)
        radius = torch.stack(torch.meshgrid(*axes, indexing="ij")).square().sum(0).sqrt()
        # Shells of one |k| each where power may be steep, radii rounded to integers beyond.
        square = radius.square().round().long().flatten()
        ring = torch.where(square <= _EXACT**2, square, 1000 * radius.round().long().flatten())
        index = torch.unique(ring, return_inverse=True)[1]
        self.half_plane = tuple(radius.shape)
        weight = torch.full(self.half_plane, 2.0)
        weight[..., 0] = 1.0
        if grid[-1] % 2 == 0:
            weight[..., -1] = 1.0
        weight = weight.flatten()
        count = torch.zeros(int(index.max()) + 1).index_add_(0, index, weight)
        for name, table in (("index", index), ("weight", weight), ("count", count)):
            self.register_buffer(name, table, persistent=False)

    def __len__(self) -> int:
        return len(self.count)

    def transform(self, field: Tensor) -> Tensor:
        """Modes of a field, (..., *grid) -> complex (..., modes)."""
        return torch.fft.rfftn(field, dim=self.axes, norm="ortho").flatten(-len(self.grid))

    def inverse(self, modes: Tensor) -> Tensor:
        """Field of its modes, complex (..., modes) -> (..., *grid)."""
        return torch.fft.irfftn(
            modes.unflatten(-1, self.half_plane), s=self.grid, dim=self.axes, norm="ortho"
        )

    def power(self, a: Tensor, b: Tensor) -> Tensor:
        """Cross-power summed over each ring, complex (..., modes) twice -> (..., rings)."""
        product = (a.real * b.real + a.imag * b.imag) * self.weight
        out = torch.zeros(*product.shape[:-1], len(self), dtype=product.dtype, device=product.device)
        return out.index_add_(-1, self.index, product)
