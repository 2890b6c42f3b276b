"""Fields to features: convolutions at every scale, with or without a sense of place."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from sbikit import UnsupportedError

# Pixels a side where halving ends: a layer of 3 pixels with circular padding still sees all of it. More
# would leave out the largest scales, fewer add a layer that sees what the last one saw.
_SMALLEST_GRID = 4
_CONVOLUTIONS: tuple[type[nn.Conv1d | nn.Conv2d | nn.Conv3d], ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_POOLS = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)


class PooledConvolutions(nn.Module):
    """A field (B, C, *grid) to convolutional features (B, features).

    The grid is halved until 4 pixels are left; features are the spatial means of all scales. Where things
    have a place, each pixel is told its own, and the coarsest grid is given whole beside the means.

    Args:
        grid: pixels along each axis.
        in_channels: C.
        channels: of the convolutions.
        periodic: whether the grid closes on itself; zeros lie around one that does not.
        placed: whether it matters where things are.

    Raises:
        UnsupportedError: the grid has more than three dimensions.
    """

    places: Tensor

    def __init__(
        self, grid: tuple[int, ...], in_channels: int, channels: int, *, periodic: bool, placed: bool
    ) -> None:
        super().__init__()
        if len(grid) > len(_CONVOLUTIONS):
            raise UnsupportedError(
                f"The estimator 'npe' cannot look at fields of {len(grid)} dimensions.",
                where="the observed fields and their summaries",
                expected="1, 2 or 3 dimensions",
                got=str(grid),
            )
        self._placed = placed
        self._pool = _POOLS[len(grid) - 1]
        halvings = max(0, math.ceil(math.log2(max(grid) / _SMALLEST_GRID)))
        convolution = _CONVOLUTIONS[len(grid) - 1]
        padding: Literal["circular", "zeros"] = "circular" if periodic else "zeros"

        def layer(fan_in: int) -> nn.Module:
            return convolution(fan_in, channels, 3, padding=1, padding_mode=padding)

        places = _places(grid, periodic) if placed else torch.zeros(0, *grid)
        self.register_buffer("places", places, persistent=False)
        self.first = layer(in_channels + len(places))
        self.inner = nn.ModuleList([layer(channels) for _ in range(halvings)])
        self.outer = nn.ModuleList([layer(channels) for _ in range(halvings)])
        coarsest = math.prod(-(-n // 2**halvings) for n in grid)
        self.features = channels * (1 + halvings + (coarsest if placed else 0))

    def forward(self, x: Tensor) -> Tensor:
        if self._placed:
            x = torch.cat([x, self.places.expand(len(x), *self.places.shape)], 1)
        h = functional.silu(self.first(x))
        found = [h.flatten(2).mean(-1)]
        for inner, outer in zip(self.inner, self.outer, strict=True):
            h = self._pool(h, 2, ceil_mode=True, count_include_pad=False)
            h = functional.silu(h + outer(functional.silu(inner(h))))
            found.append(h.flatten(2).mean(-1))
        if self._placed:
            found.append(h.flatten(1))
        return torch.cat(found, 1)


def _places(grid: tuple[int, ...], periodic: bool) -> Tensor:
    """Where each pixel is, (K, *grid): from -1 to 1 along each axis, or sine and cosine around a circle."""
    steps = [(torch.arange(n) + 0.5) * (2.0 / n) - 1.0 for n in grid]
    lines = torch.stack(torch.meshgrid(*steps, indexing="ij"))
    if not periodic:
        return lines
    return torch.cat([torch.sin(math.pi * lines), torch.cos(math.pi * lines)])
