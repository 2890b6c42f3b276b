"""Rings of modes: isotropic statistics of periodic fields on a grid, over modes of nearly equal |k|.

A field f on n_1 x ... x n_d pixels and a box of size L_i along axis i has modes m, of wave number
k_i = 2 pi m_i / L_i. Transforms are orthonormal, so white noise of variance s^2 has the power s^2 in every
mode. Of a real field only the modes of the half space are kept, m_d >= 0; each stands for itself and its
conjugate, except on the planes m_d = 0 and, for an even axis, Nyquist of the last axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sbikit.problem.errors import SpecError

# Of a field's mean power: keeps the logarithm of an empty ring finite. A larger value would hide steep
# spectra.
_LEAST_POWER = 1e-6
_TINY = 1e-30  # keeps it finite where the field is zero everywhere
# Shells of one |k| each up to this radius, where power may be steep; radii rounded to integers beyond. A
# larger value gives more rings of few modes: on a square grid 19 of 4 or 8 modes up to 6, 44 up to 10.
_EXACT = 6
_EDGE = 1e-6  # relative, by which a band's edge lies below a mode that is on it: more than rounding


class Rings(torch.nn.Module):
    """Assigns the modes of a real FFT to rings; made by `shells`, `linear`, `logarithmic` or `between`.

    Args:
        grid: pixels along each axis.
        label: (modes,) integers in rising order of the rings, any numbers; negative for a mode in no ring.
        k: (modes,) |k| of each mode.

    Attributes:
        index: (modes,) ring of each mode of the flattened half space; the number of rings for a mode in none.
        weight: (modes,) how often the mode stands in the full space, 1 or 2.
        count: (rings,) modes of the full space in each ring, the degrees of freedom; none is empty.
        k: (rings,) mean |k| of these modes, in radians a unit of the extent; of shells the mean radius.
        order: (modes,) the modes ring by ring, those in none at the end.
        place: (modes,) where in that order each mode is.
        sizes: how many modes of the half space each ring has.
    """

    index: Tensor
    weight: Tensor
    count: Tensor
    k: Tensor
    order: Tensor
    place: Tensor

    def __init__(self, grid: tuple[int, ...], label: Tensor, k: Tensor) -> None:
        super().__init__()
        self.grid = grid
        self.axes = tuple(range(-len(grid), 0))
        self.half_plane = (*grid[:-1], grid[-1] // 2 + 1)
        inside = label >= 0
        filled, ring = torch.unique(label[inside], return_inverse=True)
        index = torch.full_like(label, len(filled)).masked_scatter(inside, ring)
        weight = torch.full(self.half_plane, 2.0)
        weight[..., 0] = 1.0
        if grid[-1] % 2 == 0:
            weight[..., -1] = 1.0
        weight = weight.flatten()
        count = _sums(index, weight.double(), len(filled)).float()
        mean = _sums(index, weight * k, len(filled)) / count
        order = index.argsort(stable=True)
        self.sizes = tuple(torch.bincount(index, minlength=len(filled)).tolist()[: len(filled)])
        tables = {"index": index, "weight": weight, "count": count, "k": mean, "order": order}
        for name, table in (tables | {"place": order.argsort()}).items():
            self.register_buffer(name, table, persistent=False)

    @classmethod
    def shells(cls, grid: tuple[int, ...]) -> Rings:
        """Rings of integer radius, counted in units of the lowest mode of the longest axis; mode zero has one
        of its own. Low radii are divided into shells of one |k| each.
        """
        radius = _lengths(grid, [max(grid)] * len(grid), torch.float32)
        square = radius.square().round().long()
        label = torch.where(square <= _EXACT**2, square, 1000 * radius.round().long())
        return cls(grid, label, radius)

    @classmethod
    def linear(cls, grid: tuple[int, ...], extent: tuple[float, ...], bins: int | None = None) -> Rings:
        """Rings of equal width from half the smallest |k| to as much above the smallest Nyquist wave number.

        Args:
            grid: pixels along each axis.
            extent: size of the box along each axis.
            bins: how many; as many as the smallest |k| fits below Nyquist where left out.

        Raises:
            SpecError: the grid has no mode but k = 0.
        """
        smallest, nyquist = wave_range(grid, extent)
        count = bins or max(1, round(nyquist / smallest))
        edges = torch.linspace(0.5 * smallest, nyquist + 0.5 * smallest, count + 1, dtype=torch.float64)
        return cls.between(grid, extent, edges.tolist())

    @classmethod
    def logarithmic(cls, grid: tuple[int, ...], extent: tuple[float, ...], bands: int) -> Rings:
        """Bands of `logarithmic_edges`; none of a grid that has no mode but k = 0."""
        return cls.between(grid, extent, logarithmic_edges(grid, extent, bands))

    @classmethod
    def between(cls, grid: tuple[int, ...], extent: tuple[float, ...], edges: Sequence[float]) -> Rings:
        """Rings of edges[i] <= |k| < edges[i + 1], edges rising, in radians a unit of extent."""
        k = wave_numbers(grid, extent)
        label = torch.searchsorted(torch.tensor(edges, dtype=torch.float64), k, side="right") - 1
        return cls(grid, torch.where(label < len(edges) - 1, label, -1), k)

    def __len__(self) -> int:
        return len(self.count)

    def transform(self, field: Tensor) -> Tensor:
        """Modes of a field, (..., *grid) -> complex (..., modes)."""
        if not field.numel():  # no fields at all, which some Fourier libraries refuse
            return field.new_zeros(*field.shape[: -len(self.grid)], len(self.index)).to(
                field.dtype.to_complex()
            )
        return torch.fft.rfftn(field, dim=self.axes, norm="ortho").flatten(-len(self.grid))

    def inverse(self, modes: Tensor) -> Tensor:
        """Field of its modes, complex (..., modes) -> (..., *grid)."""
        return torch.fft.irfftn(
            modes.unflatten(-1, self.half_plane), s=self.grid, dim=self.axes, norm="ortho"
        )

    def power(self, a: Tensor, b: Tensor) -> Tensor:
        """Cross-power summed over each ring, complex (..., modes) twice -> (..., rings)."""
        return _sums(self.index, (a.real * b.real + a.imag * b.imag) * self.weight, len(self))

    def log_power(self, modes: Tensor) -> Tensor:
        """Logarithm of the mean power in each ring, a little above that of empty rings, complex (..., modes)
        -> (..., rings).
        """
        power = self.power(modes, modes) / self.count
        return torch.log(power + _LEAST_POWER * power.mean(-1, keepdim=True) + _TINY)


def wave_numbers(grid: tuple[int, ...], extent: tuple[float, ...]) -> Tensor:
    """|k| of every mode of the flattened half space, (modes,) float64, in radians a unit of extent."""
    units = [2.0 * math.pi * n / size for n, size in zip(grid, extent, strict=True)]
    return _lengths(grid, units, torch.float64)


def wave_range(grid: tuple[int, ...], extent: tuple[float, ...]) -> tuple[float, float]:
    """The smallest |k| that is not zero, and the smallest Nyquist wave number of an axis.

    Raises:
        SpecError: the grid has no mode but k = 0.
    """
    nyquist = [math.pi * n / size for n, size in zip(grid, extent, strict=True) if n > 1]
    if not nyquist:
        raise SpecError("The grid has no mode to take a spectrum of.", where="power spectrum", got=str(grid))
    k = wave_numbers(grid, extent)
    return float(k[k > 0].min()), min(nyquist)


def logarithmic_edges(grid: tuple[int, ...], extent: tuple[float, ...], bands: int) -> list[float]:
    """Borders of equal parts of log |k| between the smallest |k| that is not zero and the smallest Nyquist
    wave number: (bands + 1,), the last one infinite, so that the corners belong to the last band; none of a
    grid that has no mode but k = 0.
    """
    if max(grid) == 1:
        return []
    smallest, nyquist = wave_range(grid, extent)
    first = smallest * (1.0 - _EDGE)
    return [*(first * (nyquist / smallest) ** (i / bands) for i in range(bands)), math.inf]


def _lengths(grid: tuple[int, ...], units: Sequence[float], dtype: torch.dtype) -> Tensor:
    """Length of every mode of the flattened half space, in cycles a pixel times the axes' units."""
    axes = [torch.fft.fftfreq(n, dtype=dtype) for n in grid[:-1]]
    axes.append(torch.fft.rfftfreq(grid[-1], dtype=dtype))
    scaled = [axis * unit for axis, unit in zip(axes, units, strict=True)]
    return torch.stack(torch.meshgrid(*scaled, indexing="ij")).square().sum(0).sqrt().flatten()


def _sums(index: Tensor, values: Tensor, rings: int) -> Tensor:
    """Sums of values (..., modes) over each ring, (..., rings); what is in no ring falls beyond the last."""
    out = torch.zeros(*values.shape[:-1], rings + 1, dtype=values.dtype, device=values.device)
    return out.index_add_(-1, index, values)[..., :-1]
