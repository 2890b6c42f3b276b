"""Power of maps in rings and in bands of wave numbers.

Modes are those of the discrete Fourier transform, |k| in radians a unit of extent. Three bands, low, mid and
high, divide |k| between the smallest wave number and the smallest Nyquist wave number into equal parts of
log |k|; modes beyond (the corners) belong to the last. For the curve there are rings of equal width up to
that Nyquist wave number. Power is the mean of |F|^2 over the modes of a band; only ratios are used. Maps
whose grid does not close on itself are tapered first; fields that are not stationary have no bands.
"""

from __future__ import annotations

import torch

from sbikit import Field
from sbikit.fields import Rings, logarithmic_edges, tapered, wave_range
from sbikit_calibration.agreement.trio import Floats, Maps

BANDS = ("low", "mid", "high")  # more would have fewer modes and larger errors each
_MOST_RINGS = 16  # points of the curve, for the same reason


class PowerBins:
    """The rings and bands of one field's grid.

    Attributes:
        field: the field.
        k: mean |k| of each ring, (K,).
        bands: names of the bands that hold a mode.
    """

    def __init__(self, field: Field) -> None:
        edges = _band_edges(field)
        self.field = field
        self._rings, self._bands = _rings(field), Rings.between(field.grid, field.extent, edges)
        self.k: Floats = self._rings.k.numpy()
        inner = torch.tensor(edges[1:-1], dtype=torch.float64)
        self.bands = tuple(BANDS[i] for i in torch.bucketize(self._bands.k, inner).tolist())

    def power(self, maps: Maps) -> tuple[Floats, Floats]:
        """Power of every map (n, *grid) in the rings (n, K) and in the bands (n, len(bands))."""
        values = torch.from_numpy(maps)
        if not self.field.periodic:
            values = tapered(values, len(self.field.grid))
        modes = self._rings.transform(values).to(torch.complex128)
        rings, bands = (one.power(modes, modes) / one.count for one in (self._rings, self._bands))
        return rings.numpy(), bands.numpy()


def _has_modes(field: Field) -> bool:
    return field.stationary and max(field.grid) > 1


def _rings(field: Field) -> Rings:
    if not _has_modes(field):
        return Rings.between(field.grid, field.extent, ())
    smallest, nyquist = wave_range(field.grid, field.extent)
    return Rings.linear(field.grid, field.extent, min(_MOST_RINGS, max(1, round(nyquist / smallest))))


def _band_edges(field: Field) -> list[float]:
    """Borders of the three bands, (4,); none where there is no mode."""
    return logarithmic_edges(field.grid, field.extent, len(BANDS)) if _has_modes(field) else []
