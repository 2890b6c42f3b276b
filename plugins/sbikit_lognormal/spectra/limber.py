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
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sbikit_lognormal.cosmology import Cosmology, expansion, growth
from sbikit_lognormal.spectra.grid import ELL, WEIGHTS, Z, distance_matrix
from sbikit_lognormal.spectra.projection import Projection
from sbikit_lognormal.spectra.sources import Sources

_ALIGNMENT = 0.0134  # C_1 rho_crit as Joachimi et al. have it; it sets the unit of A_IA
# Redshift at which A_IA is the amplitude, as in DES (Troxel et al. 2018, arXiv:1708.01538).
_ALIGNMENT_PIVOT = 0.62


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
        self._distance = torch.from_numpy(distance_matrix()).to(device)
        self._row, self._column = torch.tril_indices(self.bins, self.bins, device=device)
        self._projection = Projection(sources, device)

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
        beyond, inverse, density = self._projection(self.z / place.u, photo_z_shift)
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
