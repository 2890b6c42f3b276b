"""What a field looks like at several scales: shapes of one-point distributions, and how scales go together.

A field is smoothed by Gaussians of rising widths; the differences of neighbours, and the smoothed fields
themselves, are the maps whose statistics are taken. Of convergence maps they tell a small network nearly all
that is known of the cosmology, as moments of scattering transforms do (arXiv:2006.08561).
"""

from __future__ import annotations

import itertools
import math

import torch
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
        self.padded = tuple(n + margin for n in grid)
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

    def forward(self, field: Tensor) -> Tensor:
        """Of fields (B, C, *grid), in any unit, the statistics (B, count), a channel after the other.

        Of each map, differences first: log variance; then, with z the map standardised, E z^3, log E z^4,
        E |z|, log E max(z, 0)^3, log E max(-z, 0)^3, E max(z - l, 0) for l = 1, 2, 3 and E max(-z - l, 0) for
        l = 1, 2. Of each pair of differences: E a^2 b, E a b^2, E |a b|, E |a| b. Then, of each map and each
        pair of channels i < j, E zi zj, E zi^2 zj and E zi zj^2: what tomographic bins have in common.
        """
        rows = max(1, _AT_ONCE // max(1, self.maps * field[:1].numel()))
        return torch.cat([self._statistics(some) for some in field.split(rows)])

    def _statistics(self, field: Tensor) -> Tensor:
        smooth = self._smooth(field) / self.inside
        details = smooth[:, :, :-1] - smooth[:, :, 1:]
        maps = torch.cat([details, smooth], 2).flatten(3)
        centred = maps - maps.mean(-1, keepdim=True)
        variance = centred.square().mean(-1) + _TINY
        z = centred * variance.rsqrt()[..., None]
        up, down = z.clamp_min(0.0), (-z).clamp_min(0.0)
        square = z.square()
        found = [
            variance.log(),
            (square * z).mean(-1),
            (square.square().mean(-1) + _TINY).log(),
            up.mean(-1) + down.mean(-1),
            ((up.square() * up).mean(-1) + _TINY).log(),
            ((down.square() * down).mean(-1) + _TINY).log(),
            *((up - level).clamp_min(0.0).mean(-1) for level in _ABOVE),
            *((down - level).clamp_min(0.0).mean(-1) for level in _BELOW),
        ]
        size = z.abs()
        for a, b in itertools.combinations(range(self.differences), 2):
            za, zb, sa, sb = z[:, :, a], z[:, :, b], size[:, :, a], size[:, :, b]
            pair = (square[:, :, a] * zb, za * square[:, :, b], sa * sb, sa * zb)
            found.append(torch.stack([one.mean(-1) for one in pair], 2))
        alone = torch.cat(found, 2).flatten(1)
        return torch.cat([alone, *self._of_channels(z)], 1) if z.shape[1] > 1 else alone

    def _of_channels(self, z: Tensor) -> list[Tensor]:
        """Of pairs of channels of standardised maps (B, C, maps, pixels), three times (B, pairs maps)."""
        each = z.transpose(1, 2)
        row, column = torch.triu_indices(z.shape[1], z.shape[1], offset=1)
        products, cubes = ((part @ each.mT / z.shape[-1]) for part in (each, each.square()))
        found = products[..., row, column], cubes[..., row, column], cubes[..., column, row]
        return [part.flatten(1) for part in found]

    def _smooth(self, field: Tensor) -> Tensor:
        """(B, C, *grid) -> (B, C, widths, *grid)."""
        axes = tuple(range(-len(self.grid), 0))
        modes = torch.fft.rfftn(field, s=self.padded, dim=axes)[:, :, None] * self.transfer
        whole: Tensor = torch.fft.irfftn(modes, s=self.padded, dim=axes)
        for axis, n in zip(axes, self.grid, strict=True):
            whole = whole.narrow(axis, 0, n)
        return whole
