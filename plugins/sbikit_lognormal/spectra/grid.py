"""The redshifts and multipoles on which the matter power is tabulated and the Limber sum is made.

The redshifts Z are Gauss-Legendre abscissae y, mapped so that they lie nearly evenly in log(z + 0.08)
(Kosloff and Tal-Ezer 1993, J. Comput. Phys. 104, 457): low multipoles see the wiggles of the baryons at low
redshift, alignments see n_i(z) itself. A function of cosmology that is to be integrated is a polynomial in y,
so that the integral is a fixed matrix.

Errors in comments are the largest ones of the spectra of five bins, with alignment and shifts and without,
relative to the geometric mean of the two bins' own spectra, at 20 <= ell <= 6000 of a fiducial cosmology,
against 200 redshifts and 200 multipoles. As it stands they are 7e-5.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from sbikit_lognormal.options import Z_MAX

Array = NDArray[np.float64]

_REDSHIFTS = 56  # 40: 3e-4, 48: 1.4e-4, 64: 5e-5; the emulator's table grows with it
_MULTIPOLES = 52  # 36: 2e-4, 44: 9e-5, 80: 5e-5; the table grows with it, too
_Z_SCALE = 0.08  # smaller ones crowd the nodes at low redshift: 0.16: 2e-4, 0.04: 7e-5
_EVENNESS = 0.96  # 0 gives Gauss-Legendre nodes in log(z + 0.08), 1 even ones; 0.5 to 0.99 are as good
_FIRST, _LAST = 2.0, 8e4  # the lowest multipole with shear; aliases of pixels of 1.1 arcmin reach 7e4
_CENTRE, _WIDTH = 200.0, 1.2  # most multipoles lie within a factor exp(width) of the centre; 3: 1.3e-4
_PANEL_NODES, _PANEL_WEIGHTS = np.polynomial.legendre.leggauss(12)
# Of a panel of a source distribution, between whose knots it is a cubic times a smooth function; 4 would do.


def _redshifts(size: int) -> tuple[Array, Array, Array]:
    """Gauss-Legendre abscissae y, the redshifts there and the weights of an integral over z; each (size,)."""
    y, weight = np.polynomial.legendre.leggauss(size)
    z = z_of_y(y)
    return y, z, weight * _dz_dy(y)


def z_of_y(y: Array) -> Array:
    """The redshift of an abscissa."""
    x = 0.5 * (1.0 + np.arcsin(_EVENNESS * y) / math.asin(_EVENNESS))
    return _Z_SCALE * np.expm1(math.log1p(Z_MAX / _Z_SCALE) * x)


def y_of_z(z: Array) -> Array:
    """The abscissa of a redshift."""
    x = np.log1p(z / _Z_SCALE) / math.log1p(Z_MAX / _Z_SCALE)
    return np.asarray(np.sin(math.asin(_EVENNESS) * (2.0 * x - 1.0)) / _EVENNESS)


def _dz_dy(y: Array) -> Array:
    dx_dy = 0.5 * _EVENNESS / (math.asin(_EVENNESS) * np.sqrt(1.0 - (_EVENNESS * y) ** 2))
    return np.asarray(math.log1p(Z_MAX / _Z_SCALE) * (z_of_y(y) + _Z_SCALE) * dx_dy)


def _multipoles(size: int) -> Array:
    """Multipoles 2 to 80,000, closest about 200 where the wiggles of the baryons are; (size,)."""
    ends = np.arcsinh(np.log(np.array([_FIRST, _LAST]) / _CENTRE) / _WIDTH)
    return _CENTRE * np.exp(_WIDTH * np.sinh(np.linspace(ends[0], ends[1], size)))


Y, Z, WEIGHTS = _redshifts(_REDSHIFTS)
"""Abscissae y, ascending in -1 to 1, the redshifts there, and the weights of an integral over z."""

ELL = _multipoles(_MULTIPOLES)
"""Multipoles at which spectra are made."""


def coefficients(terms: int) -> Array:
    """From values at the nodes to coefficients of Legendre polynomials in y, (n_z, terms)."""
    _, weight = np.polynomial.legendre.leggauss(len(Y))
    values = np.polynomial.legendre.legvander(Y, terms - 1)
    return np.asarray(values * weight[:, None] * (np.arange(terms) + 0.5))


def distance_matrix(to: Array) -> Array:
    """From f at the nodes to its integrals over z from 0 on, (n_z, n); exact for polynomials in y.

    Args:
        to: abscissae y (n,), ascending, at which the integrals end.
    """
    terms = len(Y)
    y, measure = panels(np.concatenate([[-1.0], to]))
    values = np.polynomial.legendre.legvander(y, terms - 1) * (measure * _dz_dy(y))[..., None]
    return np.asarray(coefficients(terms) @ values.sum(1).cumsum(0).T)


def panels(bounds: Array) -> tuple[Array, Array]:
    """Gauss-Legendre points and weights between neighbouring bounds (n + 1,), each (n, points)."""
    half = 0.5 * np.diff(bounds)[:, None]
    return bounds[:-1, None] + half * (1.0 + _PANEL_NODES), half * _PANEL_WEIGHTS
