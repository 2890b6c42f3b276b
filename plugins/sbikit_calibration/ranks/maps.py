"""What a map is summarised by: statistics of one channel of a field.

The logarithm of its variance over the pixels, its skewness, excess kurtosis, minimum and maximum, its peaks
(pixels above all neighbours and above the map's mean + 1 sd), and the logarithm of its power in bands of
wave numbers, where the field is stationary; maps whose grid does not close on itself are tapered for that.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from sbikit import Field
from sbikit.fields import Rings, moments, tapered, wave_numbers, wave_range
from sbikit_calibration.agreement.maps import peaks

Floats = NDArray[np.float64]
Maps = NDArray[np.floating]

ONE_POINT = ("log_variance", "skewness", "kurtosis", "minimum", "maximum", "peaks")
_BANDS = 4  # equal parts of log |k| from the largest to the smallest scales; of more, each has fewer modes
_EDGE = 1e-6  # relative, by which a band's edge lies below a mode that is on it: more than rounding
_NO_POWER = 1e-30  # added, so that the logarithm of no power is finite
_CHUNK = 2**20  # pixels in flight, 8 MiB in double precision


class MapStatistics:
    """The statistics of maps of one field.

    Attributes:
        names: one a statistic.
    """

    def __init__(self, field: Field) -> None:
        self._axes, self._periodic = len(field.grid), field.periodic
        self._rings = _bands(field) if _has_spectrum(field) else None
        count = 0 if self._rings is None else len(self._rings)
        self.names = (*ONE_POINT, *(f"band_power_{i + 1}" for i in range(count)))

    def __call__(self, maps: Maps) -> Floats:
        """The statistics of maps (n, *grid), (n, len(names))."""
        rows = max(1, _CHUNK // max(1, maps[0].size))
        return np.concatenate([self._of(maps[i : i + rows]) for i in range(0, len(maps), rows)])

    def _of(self, maps: Maps) -> Floats:
        values = np.asarray(maps, np.float64)
        over = tuple(range(1, values.ndim))
        found = moments(values, axes=self._axes)
        threshold = (found.mean + found.sd).reshape(-1, *(1,) * self._axes)
        columns = [
            np.log(found.sd**2 + _NO_POWER),
            found.skewness,
            found.kurtosis,
            values.min(over),
            values.max(over),
            peaks(values, threshold, periodic=self._periodic),
        ]
        if self._rings is not None:
            whole = torch.from_numpy(values)
            modes = self._rings.transform(whole if self._periodic else tapered(whole, self._axes))
            power = self._rings.power(modes, modes) / self._rings.count
            columns += list(torch.log(power + _NO_POWER).numpy().T)
        return np.stack(columns, 1)


def _has_spectrum(field: Field) -> bool:
    """Whether the power in bands of wave numbers says what the field is: not where it is not stationary."""
    return max(field.grid) > 2 and field.stationary


def _bands(field: Field) -> Rings:
    """Bands of equal width in log |k| between the smallest wave number and the smallest Nyquist wave number.

    Modes beyond (the corners) belong to the last.
    """
    smallest, nyquist = wave_range(field.grid, field.extent)
    steps = [smallest * (nyquist / smallest) ** (i / _BANDS) * (1.0 - _EDGE) for i in range(_BANDS)]
    last = float(wave_numbers(field.grid, field.extent).max()) * (1.0 + _EDGE)
    return Rings.between(field.grid, field.extent, [*steps, max(last, nyquist)])
