"""The redshifts at which the Limber sum is made: those of the matter power, or more where sources need it.

Between the redshifts Z of grid.py the matter power p is smooth, and as smooth is p / g, g = z / (z + 0.03),
which vanishes less fast today: a spline of fifth order carries it to other redshifts. The kernels W_i need
not be smooth: that of galaxies at one redshift has a kink, and alignments follow n_i(z) itself. Then they are
taken at the Gauss-Legendre points of cells. These are halved, in the end at the knots of the distribution,
until the points give the integrals of n_i and n_i^2 over each cell.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import make_interp_spline

from sbikit_lognormal.options import Z_MAX
from sbikit_lognormal.spectra.distributions import Sources
from sbikit_lognormal.spectra.grid import WEIGHTS, Y, Z, distance_matrix, y_of_z, z_of_y

Array = NDArray[np.float64]

_CELLS = 64  # even in y
_POINTS, _POINT_WEIGHTS = np.polynomial.legendre.leggauss(4)
# CAMB's power is met to 1e-3, at low multipoles below redshift .1 to 1e-2; a polynomial through all redshifts
# brings the ill-resolved wiggles there to the others.
_ORDER = 5
_ERROR = 1e-5  # of the integrals of n_i and n_i^2 in a cell, relative to those over all redshifts
_COARSE_ERROR = 1e-2  # of the same over all redshifts by those of the power; of aligned spectra it is 2e-4


@dataclass(frozen=True, eq=False)
class Mesh:
    """Redshifts of a Limber sum.

    Args:
        z: redshifts (n,), ascending.
        weights: of an integral over z, (n,).
        distance: from f at the redshifts Z of grid.py to its integrals over z from 0 to each, (n_z, n).
        carry: from values at Z to values at z, (n_z, n); None where they are the same.
    """

    z: Array
    weights: Array
    distance: Array
    carry: Array | None


COARSE = Mesh(Z, WEIGHTS, distance_matrix(Y), None)
"""The redshifts of the matter power themselves."""


def fine_mesh(sources: Sources) -> Mesh:
    """The mesh on which the kernels of these sources and their products are resolved."""
    z, weights = _points(_cells(sources))
    z, weights = z.ravel(), weights.ravel()
    y = y_of_z(z)
    carry = make_interp_spline(Y, np.diag(1.0 / _falling(Z)), k=_ORDER)(y).T * _falling(z)
    return Mesh(z, weights, distance_matrix(y), np.ascontiguousarray(carry))


def is_resolved(sources: Sources) -> bool:
    """Whether the redshifts of the matter power follow n_i(z) itself, on which alignments depend."""
    density = sources.density(Z)
    summed = np.array([(density * WEIGHTS).sum(-1), (density**2 * WEIGHTS).sum(-1)])
    exact = _moments(sources, np.unique(np.clip(sources.z, 0.0, Z_MAX))).sum(-1)
    return bool((np.abs(summed - exact) < _COARSE_ERROR * exact).all())


def _falling(z: Array) -> Array:
    """g, which falls to zero today as the power does."""
    return z / (z + 0.03)


def _points(bounds: Array) -> tuple[Array, Array]:
    """Gauss-Legendre points and weights of the cells between bounds (n + 1,), each (n, points)."""
    half = 0.5 * np.diff(bounds)[:, None]
    return bounds[:-1, None] + half * (1.0 + _POINTS), half * _POINT_WEIGHTS


def _cells(sources: Sources) -> Array:
    """Bounds of the cells, (n + 1,), ascending from 0 to the largest redshift."""
    bounds = z_of_y(np.linspace(-1.0, 1.0, _CELLS + 1))
    bounds[[0, -1]] = 0.0, Z_MAX
    # Between knots the distributions are polynomials, of which the points know the squares.
    knots = np.unique(np.concatenate([bounds, np.clip(sources.z, 0.0, Z_MAX)]))
    known = np.concatenate([np.zeros((2, sources.bins, 1)), _moments(sources, knots).cumsum(-1)], -1)
    index = np.searchsorted(knots, bounds)
    while True:
        exact = np.diff(known[..., index])
        error = np.abs(_moments(sources, knots[index]) - exact) / known[..., -1:]
        split = (error.max((0, 1)) > _ERROR) & (np.diff(index) > 1)
        if not split.any():
            return np.asarray(knots[index])
        middle = (index[:-1] + index[1:])[split] // 2
        index = np.sort(np.concatenate([index, middle]))


def _moments(sources: Sources, bounds: Array) -> Array:
    """Integrals of n_i and n_i^2 over the cells between bounds (n + 1,), by their points, (2, bins, n)."""
    z, weights = _points(bounds)
    density = sources.density(z)
    return np.array([(density * weights).sum(-1), (density**2 * weights).sum(-1)])
