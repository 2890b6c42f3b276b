"""Convergence power spectra of source bins from the matter power on a fixed grid, differentiable in torch.

With distances u = chi H_0 / c, u' = du/dz = 1 / E(z), and the matter power at a multipole's wave numbers,
p(z, ell) = (h / D_H)^3 P(k = (ell + 1/2) / chi, z) where D_H = h c / H_0, the extended Limber approximation
(Kilbinger et al. 2017, doi:10.1093/mnras/stx2082) is

    C_ij(ell) = [ell (ell + 1) / (ell + 1/2)^2]^2  int dz  u'(z) W_i(z) W_j(z) / u^2  p(z, ell)
    W_i(z)    = 3/2 Omega_m (1 + z) u int_z dz' n_i(z') [1 - u(z) / u(z')]  +  F(z) n_i(z) / u'(z)

F is the intrinsic alignment of galaxies with the tidal field, in proportion to the non-linear density (Bridle
and King 2007, doi:10.1088/1367-2630/9/12/444) with the growth D, normalised today, and a power of redshift
(Joachimi et al. 2011, doi:10.1051/0004-6361/201015621):

    F(z) = -A_IA C_1 rho_crit Omega_m / D(z) [(1 + z) / (1 + 0.62)]^eta_IA,     C_1 rho_crit = 0.0134

A photometric redshift shift delta moves a bin, n_i(z - delta_i); what it moves below z = 0 is lost, and the
rest normalised.

How the sums are made. The redshifts Z are Gauss-Legendre abscissae y, mapped so that they lie nearly evenly
in log(z + 0.08) (Kosloff and Tal-Ezer 1993): low multipoles see the wiggles of the baryons at low redshift,
alignments see n_i(z) itself. Where a function of cosmology must be integrated, 1/E or z/u, it is a polynomial
in y, so that each integral is a fixed matrix, made once. The matrices are Chebyshev series in delta.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from torch import Tensor

from sbikit import SimulationError
from sbikit_lognormal.cosmology import Cosmology, expansion, growth
from sbikit_lognormal.sources import Z_MAX, Sources

Array = NDArray[np.float64]

MAX_PHOTO_Z_SHIFT = 0.1
"""The largest shift delta of a bin, to either side."""

_Z_SCALE = 0.08
_EVENNESS = 0.96  # 0 gives Gauss-Legendre nodes in log(z + 0.08), 1 even ones
_MODES = 24  # polynomials that hold z / u
_SHIFTS = 24  # terms of the series in delta
_KNOT_DISTANCE = 0.02  # panels over which a source distribution is a polynomial
_PANEL_NODES, _PANEL_WEIGHTS = np.polynomial.legendre.leggauss(12)
_ALIGNMENT = 0.0134  # C_1 rho_crit
_ALIGNMENT_PIVOT = 0.62


def _redshifts(size: int) -> tuple[Array, Array, Array]:
    """Gauss-Legendre abscissae y, the redshifts there and the weights of an integral over z; each (size,)."""
    y, weight = np.polynomial.legendre.leggauss(size)
    z = _z_of_y(y)
    return y, z, weight * _dz_dy(y)


def _z_of_y(y: Array) -> Array:
    x = 0.5 * (1.0 + np.arcsin(_EVENNESS * y) / math.asin(_EVENNESS))
    return _Z_SCALE * np.expm1(math.log1p(Z_MAX / _Z_SCALE) * x)


def _y_of_z(z: Array) -> Array:
    x = np.log1p(z / _Z_SCALE) / math.log1p(Z_MAX / _Z_SCALE)
    return np.asarray(np.sin(math.asin(_EVENNESS) * (2.0 * x - 1.0)) / _EVENNESS)


def _dz_dy(y: Array) -> Array:
    dx_dy = 0.5 * _EVENNESS / (math.asin(_EVENNESS) * np.sqrt(1.0 - (_EVENNESS * y) ** 2))
    return np.asarray(math.log1p(Z_MAX / _Z_SCALE) * (_z_of_y(y) + _Z_SCALE) * dx_dy)


def _multipoles(size: int) -> Array:
    """Multipoles 2 to 80,000, closest about 200 where the wiggles of the baryons are; (size,)."""
    ends = np.arcsinh(np.log(np.array([2.0, 8e4]) / 200.0) / 1.2)
    return 200.0 * np.exp(1.2 * np.sinh(np.linspace(ends[0], ends[1], size)))


_Y, Z, WEIGHTS = _redshifts(56)
ELL = _multipoles(52)


class _Place(NamedTuple):
    """Distances u (..., n_z) and slopes u' = du/dz (..., n_z) at the redshifts `Z` of some cosmologies."""

    parameters: Cosmology
    u: Tensor
    slope: Tensor


class Limber:
    """Spectra of the bins of some sources.

    Args:
        sources: the source distributions.
        device: where to compute; float64 always.
    """

    def __init__(self, sources: Sources, device: torch.device | str = "cpu") -> None:
        self.sources = sources
        self.bins = sources.bins
        self.z = torch.from_numpy(Z).to(device)
        self._stretch = 1.0 + self.z
        self._weights = torch.from_numpy(WEIGHTS).to(device)
        factor = (ELL * (ELL + 1.0) / (ELL + 0.5) ** 2) ** 2
        self._factor = torch.from_numpy(factor).to(device)
        self._distance = torch.from_numpy(_distance_matrix()).to(device)
        self._modes = torch.from_numpy(_coefficients(_MODES)).to(device)
        self._row, self._column = torch.tril_indices(self.bins, self.bins, device=device)
        self._unshifted = _Projection([_shifted_matrices(sources, 0.0)], device)
        self._shifted: _Projection | None = None

    def __call__(
        self,
        cosmology: Tensor,
        log_power: Tensor,
        *,
        photo_z_shift: Tensor | None = None,
        alignment: Tensor | None = None,
    ) -> Tensor:
        """C_ij(ell) at the multipoles `ELL`, (..., pairs, n_ell), pairs (0,0), (1,0), (1,1), (2,0), ...

        Args:
            cosmology: the six parameters (..., 6), float64.
            log_power: log of p(z, ell) at the redshifts `Z` and multipoles `ELL`, (..., n_z, n_ell).
            photo_z_shift: delta of each bin, (..., bins).
            alignment: A_IA and eta_IA, (..., 2).

        Raises:
            SimulationError: a shift delta is larger than `MAX_PHOTO_Z_SHIFT`.
        """
        place = self._place(cosmology)
        kernel = self._kernel(place, photo_z_shift, alignment)
        kernel = kernel * (torch.sqrt(self._weights * place.slope) / place.u).unsqueeze(-2)
        products = kernel.index_select(-2, self._row) * kernel.index_select(-2, self._column)
        return (products @ log_power.exp()) * self._factor

    def kernel(
        self,
        cosmology: Tensor,
        *,
        photo_z_shift: Tensor | None = None,
        alignment: Tensor | None = None,
    ) -> Tensor:
        """W_i at the redshifts `Z`, (..., bins, n_z); arguments and errors as in a call."""
        return self._kernel(self._place(cosmology), photo_z_shift, alignment)

    def distance(self, cosmology: Tensor) -> Tensor:
        """u = chi H_0 / c at the redshifts `Z`, (..., n_z), of cosmologies (..., 6)."""
        return self._place(cosmology).u

    def integral(self, cosmology: Tensor, values: Tensor) -> Tensor:
        """The integral over u, (..., bins), of values (..., bins, n_z) at the redshifts `Z`."""
        return (values * (self._weights * self._place(cosmology).slope).unsqueeze(-2)).sum(-1)

    def _place(self, cosmology: Tensor) -> _Place:
        parameters = Cosmology.of(cosmology)
        slope = 1.0 / expansion(parameters, self.z)
        return _Place(parameters, slope @ self._distance, slope)

    def _kernel(self, place: _Place, photo_z_shift: Tensor | None, alignment: Tensor | None) -> Tensor:
        """W_i (..., bins, n_z)."""
        modes = (self.z / place.u) @ self._modes
        beyond, inverse, density = self._project(modes, photo_z_shift)
        strength = 1.5 * place.parameters.omega_m[..., None] * self._stretch * place.u
        lensing = strength.unsqueeze(-2) * (beyond - place.u.unsqueeze(-2) * inverse)
        if alignment is None:
            return lensing
        factor = self._alignment(place.parameters, alignment) / place.slope
        return lensing + factor.unsqueeze(-2) * density

    def _alignment(self, parameters: Cosmology, alignment: Tensor) -> Tensor:
        """F (..., n_z)."""
        amplitude, slope = (value[..., None] for value in alignment.unbind(-1))
        evolution = torch.exp(slope * torch.log(self._stretch / (1.0 + _ALIGNMENT_PIVOT)))
        strength = -amplitude * _ALIGNMENT * parameters.omega_m[..., None]
        return strength * evolution / growth(parameters, self.z)

    def _project(self, modes: Tensor, photo_z_shift: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Integrals over n_i and n_i / u from z on, and n_i, each (..., bins, n_z), of the modes of z/u."""
        if photo_z_shift is None:
            return self._unshifted(modes)
        _refuse_large(photo_z_shift)
        if self._shifted is None:
            angles = np.pi * (np.arange(_SHIFTS) + 0.5) / _SHIFTS
            nodes = MAX_PHOTO_Z_SHIFT * np.cos(angles)
            tables = [_shifted_matrices(self.sources, float(node)) for node in nodes]
            self._shifted = _Projection(tables, self.z.device)
        return self._shifted(modes, photo_z_shift / MAX_PHOTO_Z_SHIFT)


class _Projection:
    """The three integrals over a source distribution, as Chebyshev series in its shift.

    Args:
        tables: what `_shifted_matrices` gives at the roots of the Chebyshev polynomial of their number.
        device: where to compute.
    """

    def __init__(self, tables: list[tuple[Array, Array, Array]], device: torch.device | str) -> None:
        size = len(tables)
        roots = np.pi * (np.arange(size) + 0.5) / size
        transform = np.cos(np.arange(size)[:, None] * roots) * (2.0 / size)
        transform[0] *= 0.5
        beyond, inverse, density = (
            torch.from_numpy(np.tensordot(transform, np.array(table), 1)).to(device)
            for table in zip(*tables, strict=True)
        )
        # (bins, terms, n_z), and (n_modes, bins * terms * n_z) for one product.
        self._beyond, self._density = beyond.transpose(0, 1), density.transpose(0, 1)
        self._shape = tuple(self._beyond.shape)
        self._inverse = inverse.permute(3, 1, 0, 2).flatten(1).contiguous()

    def __call__(self, modes: Tensor, shift: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """The integrals, each (..., bins, n_z), of modes (..., n_modes) and shifts (..., bins) in -1 to 1."""
        inverse = (modes @ self._inverse).unflatten(-1, self._shape)
        if shift is None:
            return self._beyond[:, 0], inverse[..., 0, :], self._density[:, 0]
        series = _chebyshev(shift, self._shape[1]).unsqueeze(-2)
        return (
            (series @ self._beyond).squeeze(-2),
            (series @ inverse).squeeze(-2),
            (series @ self._density).squeeze(-2),
        )


def _chebyshev(x: Tensor, terms: int) -> Tensor:
    """Chebyshev polynomials (..., terms) at x (...), by their recurrence."""
    values = [torch.ones_like(x), x]
    for _ in range(terms - 2):
        values.append(2.0 * x * values[-1] - values[-2])
    return torch.stack(values[:terms], -1)


def _refuse_large(photo_z_shift: Tensor) -> None:
    """The series holds within its range only."""
    largest = float(photo_z_shift.detach().abs().max()) if photo_z_shift.numel() else 0.0
    if not largest <= MAX_PHOTO_Z_SHIFT:
        raise SimulationError(
            "A photometric redshift shift is larger than the spectra are made for.",
            where="photo_z_shift",
            expected=f"between -{MAX_PHOTO_Z_SHIFT:g} and {MAX_PHOTO_Z_SHIFT:g}",
            got=f"{largest:.3g}",
            fix="narrow the prior of the shifts",
        )


def _coefficients(terms: int) -> Array:
    """From values at the nodes to coefficients of Legendre polynomials in y, (n_z, terms)."""
    _, weight = np.polynomial.legendre.leggauss(len(_Y))
    values = np.polynomial.legendre.legvander(_Y, terms - 1)
    return np.asarray(values * weight[:, None] * (np.arange(terms) + 0.5))


def _distance_matrix() -> Array:
    """From f at the nodes to its integrals over z from 0 to each, (n_z, n_z); exact for polynomials in y."""
    terms = len(_Y)
    y, measure = _panels(np.concatenate([[-1.0], _Y]))
    values = np.polynomial.legendre.legvander(y, terms - 1) * (measure * _dz_dy(y))[..., None]
    return np.asarray(_coefficients(terms) @ values.sum(1).cumsum(0).T)


def _shifted_matrices(sources: Sources, shift: float) -> tuple[Array, Array, Array]:
    """The integrals over the distributions moved by `shift`.

    Returns:
        The integral of n_i from each node on (bins, n_z), the matrix from the modes of z/u to that of n_i / u
        (bins, n_z, n_modes), and n_i (bins, n_z).
    """
    spline = CubicSpline(sources.z, sources.n_z, axis=-1)

    def moved(z: Array) -> Array:
        inside = (z >= shift) & (z <= Z_MAX + shift)
        return np.asarray(spline(np.clip(z - shift, 0.0, Z_MAX)) * inside)

    knots = np.arange(0.0, Z_MAX + _KNOT_DISTANCE, _KNOT_DISTANCE) + shift
    bounds = np.unique(np.concatenate([[0.0, Z_MAX], Z, knots[(knots > 0.0) & (knots < Z_MAX)]]))
    z, measure = _panels(bounds)
    number = moved(z) * measure
    modes = np.polynomial.legendre.legvander(_y_of_z(z), _MODES - 1) / z[..., None]
    total = number.sum((-2, -1))
    beyond = _sums_from_nodes(number.sum(-1)[..., None], bounds)[..., 0]
    inverse = _sums_from_nodes(np.einsum("bpk,pkm->bpm", number, modes), bounds)
    return beyond / total[:, None], inverse / total[:, None, None], moved(Z) / total[:, None]


def _panels(bounds: Array) -> tuple[Array, Array]:
    """Gauss-Legendre points and weights between neighbouring bounds (n + 1,), each (n, points)."""
    half = 0.5 * np.diff(bounds)[:, None]
    return bounds[:-1, None] + half * (1.0 + _PANEL_NODES), half * _PANEL_WEIGHTS


def _sums_from_nodes(panels: Array, bounds: Array) -> Array:
    """Sums over the panels above each node, (bins, n_z, n), of values a panel (bins, n_panels, n)."""
    above = np.flip(np.flip(panels, 1).cumsum(1), 1)
    return np.asarray(above[:, np.searchsorted(bounds, Z)])


__all__ = ["ELL", "MAX_PHOTO_Z_SHIFT", "WEIGHTS", "Limber", "Z"]
