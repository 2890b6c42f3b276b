"""What a field looks like at several scales: shapes of one-point distributions, and how scales go together.

A field is smoothed by Gaussians of rising widths; the differences of neighbours, and the smoothed fields
themselves, are the maps whose statistics are taken. Of convergence maps they tell a small network nearly all
that is known of the cosmology, as moments of scattering transforms do (arXiv:2006.08561).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from scipy.fft import next_fast_len
from torch import Tensor, nn

_WIDTHS = (0.0, 0.7, 1.4, 2.8, 5.6)  # pixels: the standard deviations of the Gaussians
# Of the shortest axis: a wider Gaussian would leave nearly nothing of a map.
_WIDEST = 0.2
_REACH = 4  # standard deviations: beyond, a Gaussian is taken for zero
_TINY = 1e-12  # keeps logarithms and quotients of a flat map finite
# Numbers of maps at once: a step takes ten times their memory, and what processors' caches hold is fastest.
_AT_ONCE = 2**19
_ABOVE, _BELOW = (1.0, 2.0, 3.0), (1.0, 2.0)


class Scales(nn.Module):
    """Statistics of fields at several scales, of each channel and of each pair of channels.

    Args:
        grid: pixels along each axis, one to three axes.
        periodic: whether the grid closes on itself; else what lies outside counts for nothing.
    """

    transfer: Tensor
    inside: Tensor

    def __init__(self, grid: tuple[int, ...], *, periodic: bool) -> None:
        super().__init__()
        self.grid = grid
        widths = [w for w in _WIDTHS if w <= _WIDEST * min(grid)]
        margin = 0 if periodic else math.ceil(_REACH * widths[-1])
        self.padded = grid if periodic else tuple(next_fast_len(n + margin, real=True) for n in grid)
        square = torch.zeros(())
        for n in self.padded[:-1]:
            square = square[..., None] + (2 * math.pi * torch.fft.fftfreq(n)).square()
        square = square[..., None] + (2 * math.pi * torch.fft.rfftfreq(self.padded[-1])).square()
        transfer = torch.stack([torch.exp(-0.5 * w**2 * square) for w in widths])
        self.register_buffer("transfer", transfer, persistent=False)
        ones = torch.ones(1, 1, *grid)
        self.register_buffer("inside", torch.ones(()), persistent=False)
        if not periodic:
            self.inside = self._smooth(ones)
        self.maps = 2 * len(widths) - 1
        self.differences = len(widths) - 1

    def count(self, channels: int) -> int:
        """Statistics of so many channels."""
        alone = self.maps * (6 + len(_ABOVE) + len(_BELOW)) + 4 * math.comb(self.differences, 2)
        return channels * alone + 3 * math.comb(channels, 2) * self.maps

    @torch.no_grad()  # maps are overwritten: allocating others takes as long as all else
    def forward(self, field: Tensor) -> Tensor:
        """Of fields (B, C, *grid), in any unit, the statistics (B, count), a channel after the other.

        Of each map, differences first: log variance; then, with z the map standardised, E z^3, log E z^4,
        E |z|, log E max(z, 0)^3, log E max(-z, 0)^3, E max(z - l, 0) for l = 1, 2, 3 and E max(-z - l, 0) for
        l = 1, 2. Of each pair of differences: E a^2 b, E a b^2, E |a b|, E |a| b. Then, of each map and each
        pair of channels i < j, E zi zj, E zi^2 zj and E zi zj^2: what tomographic bins have in common.
        No gradients are kept.
        """
        rows = max(1, _AT_ONCE // max(1, self.maps * field[:1].numel()))
        return torch.cat([self._statistics(some) for some in field.split(rows)])

    def _statistics(self, field: Tensor) -> Tensor:
        z, variance = self._standardised(field)
        shapes = self._shapes(z.flatten(0, 1)).unflatten(0, z.shape[:2])
        alone = torch.cat([variance.log(), shapes], 2).flatten(1)
        return torch.cat([alone, *self._of_channels(z)], 1) if z.shape[1] > 1 else alone

    def _shapes(self, z: Tensor) -> Tensor:
        """Of the standardised maps of single channels (N, maps, pixels) all but variances, (N, numbers)."""
        square = z.square()
        up = z.clamp_min(0.0)
        down = up - z
        cubes_up, cubes_down = _mean_product(square, up), _mean_product(square, down)
        return torch.cat(
            [
                cubes_up - cubes_down,
                (_mean_product(square, square) + _TINY).log(),
                up.mean(-1) + down.mean(-1),
                (cubes_up + _TINY).log(),
                (cubes_down + _TINY).log(),
                *_exceedances(up, _ABOVE),
                *_exceedances(down, _BELOW),
                self._of_pairs(z[:, : self.differences], square[:, : self.differences]),
            ],
            1,
        )

    def _standardised(self, field: Tensor) -> tuple[Tensor, Tensor]:
        """Maps of fields (B, C, *grid) standardised, differences first, (B, C, maps, pixels), and their
        variances, (B, C, maps).
        """
        smooth = self._smooth(field).div_(self.inside).flatten(3)
        maps = torch.cat([smooth[:, :, :-1] - smooth[:, :, 1:], smooth], 2)
        maps -= maps.mean(-1, keepdim=True)
        variance = _mean_product(maps, maps) + _TINY
        maps *= variance.rsqrt()[..., None]
        return maps, variance

    def _of_pairs(self, z: Tensor, square: Tensor) -> Tensor:
        """Of each pair of differences (N, differences, pixels) four numbers, (N, numbers)."""
        size, n = z.abs(), z.shape[-1]
        cubes, sizes, signed = square @ z.mT / n, size @ size.mT / n, size @ z.mT / n
        a, b = torch.triu_indices(self.differences, self.differences, offset=1)
        pairs = cubes[:, a, b], cubes[:, b, a], sizes[:, a, b], signed[:, a, b]
        return torch.stack(pairs, -1).flatten(1)

    def _of_channels(self, z: Tensor) -> list[Tensor]:
        """Of pairs of channels of standardised maps (B, C, maps, pixels), three times (B, pairs maps)."""
        row, column = torch.triu_indices(z.shape[1], z.shape[1], offset=1)
        products, cubes = [], []
        for one in z:  # of a batch of them axes cannot be swapped without a copy
            each = one.transpose(0, 1)
            products.append(each @ each.mT)
            cubes.append(each.square() @ each.mT)
        both, cube = torch.stack(products) / z.shape[-1], torch.stack(cubes) / z.shape[-1]
        found = both[..., row, column], cube[..., row, column], cube[..., column, row]
        return [part.flatten(1) for part in found]

    def _smooth(self, field: Tensor) -> Tensor:
        """(B, C, *grid) -> (B, C, widths, *grid)."""
        axes = tuple(range(-len(self.grid), 0))
        modes = torch.fft.rfftn(field, s=self.padded, dim=axes)[:, :, None] * self.transfer
        whole: Tensor = torch.fft.irfftn(modes, s=self.padded, dim=axes)
        for axis, n in zip(axes, self.grid, strict=True):
            whole = whole.narrow(axis, 0, n)
        return whole


def _mean_product(one: Tensor, other: Tensor) -> Tensor:
    """Over the last axis."""
    return torch.linalg.vecdot(one, other) / one.shape[-1]


def _exceedances(sizes: Tensor, levels: Sequence[float]) -> list[Tensor]:
    """Means over the last axis of what sizes, at least 0, are above rising levels; overwrites them."""
    found, below = [], 0.0
    for level in levels:
        sizes.sub_(level - below).clamp_min_(0.0)
        found.append(sizes.mean(-1))
        below = level
    return found
