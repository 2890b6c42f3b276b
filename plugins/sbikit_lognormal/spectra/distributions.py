"""Redshift distributions of source galaxies: values at knots, and what lies between."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from sbikit_lognormal.spectra.grid import panels

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Sources:
    """Source distributions, normalised; zero below the first knot and above the last.

    Args:
        z: redshifts of the knots (n_z,), ascending from 0 or more to 5 or less. Where `between` is linear two
            knots may have the same redshift: there the distribution steps.
        n_z: values there (bins, n_z), each distribution of integral 1.
        between: the knots it is a cubic spline, as smooth models are, or straight, as tables are.
    """

    z: Array
    n_z: Array
    between: Literal["cubic", "linear"] = "cubic"

    @property
    def bins(self) -> int:
        """How many tomographic bins there are."""
        return len(self.n_z)

    @cached_property
    def mean(self) -> Array:
        """Mean redshift of each bin, (bins,)."""
        if self.between == "cubic":
            return np.asarray(np.trapezoid(self.n_z * self.z, self.z, axis=-1))
        low, high = self.z[:-1], self.z[1:]
        first, second = self.n_z[:, :-1], self.n_z[:, 1:]
        moments = (high - low) / 6.0 * (first * (2.0 * low + high) + second * (low + 2.0 * high))
        return np.asarray(moments.sum(-1))

    @cached_property
    def width(self) -> Array:
        """Standard deviation of the redshifts of each bin, (bins,)."""
        z, measure = panels(np.unique(self.z))
        centred = z - self.mean[:, None, None]
        return np.sqrt((self.density(z) * measure * centred**2).sum((-2, -1)))

    def density(self, z: Array) -> Array:
        """n_i at redshifts z (...), (bins, ...)."""
        inside = (z >= self.z[0]) & (z <= self.z[-1])
        held = np.clip(z, self.z[0], self.z[-1])
        return np.asarray(self._between(held) * inside)

    def moved(self, shift: float) -> Sources:
        """n_i(z - shift), not normalised and not cut at redshift 0."""
        return Sources(self.z + shift, self.n_z, self.between)

    def _between(self, z: Array) -> Array:
        if self.between == "cubic":
            return np.asarray(self._spline(z))
        cell = np.clip(np.searchsorted(self.z, z, side="right") - 1, 0, len(self.z) - 2)
        width = self.z[cell + 1] - self.z[cell]
        along = np.divide(z - self.z[cell], width, out=np.zeros_like(z), where=width > 0)
        return np.asarray(self.n_z[:, cell] * (1.0 - along) + self.n_z[:, cell + 1] * along)

    @cached_property
    def _spline(self) -> CubicSpline:
        return CubicSpline(self.z, self.n_z, axis=-1)
