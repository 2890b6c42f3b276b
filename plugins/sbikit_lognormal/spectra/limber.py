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
rest normalised. The integrals over n_i are exact (projection.py), that over z is a sum over a mesh (mesh.py).
"""

from __future__ import annotations

from typing import NamedTuple, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbikit import OptionError
from sbikit_lognormal.cosmology import Cosmology, expansion, growth
from sbikit_lognormal.options import MAX_PHOTO_Z_SHIFT
from sbikit_lognormal.spectra.distributions import Sources
from sbikit_lognormal.spectra.grid import ELL, Z
from sbikit_lognormal.spectra.mesh import COARSE, Mesh, fine_mesh, is_resolved
from sbikit_lognormal.spectra.projection import SHIFT_TERMS, Projection
from sbikit_lognormal.spectra.resolution import REFERENCE, deviation

Array = NDArray[np.float64]

_ALIGNMENT = 0.0134  # C_1 rho_crit as Joachimi et al. have it; it sets the unit of A_IA
# Redshift at which A_IA is the amplitude, as in DES (Troxel et al. 2018, arXiv:1708.01538).
_ALIGNMENT_PIVOT = 0.62


# Up to this error of lensing spectra (resolution.py) the redshifts of the matter power are enough. Five bins
# of a scatter of .05 (1 + z) have 3e-7, ten of .005 (1 + z) 1e-4, sources at one redshift up to 3e-3.
_MESH_ERROR = 1e-4
# More terms of the series in a shift are tried down to the first; sources with more than the second are
# refused. These five bins have 1e-5 with alignments, source planes 1e-4 to 4e-3 without, histograms of steps
# of .05 1e-4 without and 4e-3 with.
_GOOD_SERIES, _WORST_SERIES = 5e-4, 1e-2
_NO_BETTER = 1.5  # more terms are taken if the error of fewer is so many times as large
_TRIED_SHIFTS = tuple(MAX_PHOTO_Z_SHIFT * share for share in (-0.713, -0.387, 0.0, 0.029, 0.531, 0.877))
# At no shift the mesh resolves the sources: a series too short for them shows.


class _Place(NamedTuple):
    """Distances u and slopes u' = du/dz at the redshifts of a mesh, (..., n), and u at `Z`, (..., n_z)."""

    parameters: Cosmology
    u: Tensor
    slope: Tensor
    table_u: Tensor


class Limber:
    """Spectra of the bins of some sources.

    Args:
        sources: the source distributions.
        device: where to compute; float64 always.
        aligned: whether intrinsic alignments may be asked for, which are harder to resolve.
        mesh: the redshifts z that the sum is made over, n of them; left out, those of the matter power where
            they are as good as a fine mesh.
    """

    def __init__(
        self,
        sources: Sources,
        device: torch.device | str = "cpu",
        *,
        aligned: bool = True,
        mesh: Mesh | None = None,
    ) -> None:
        mesh = _coarsest(sources, aligned) if mesh is None else mesh
        self.sources, self.bins, self._mesh = sources, sources.bins, mesh

        def tensor(array: Array) -> Tensor:
            return torch.from_numpy(array).to(device)

        self.z = tensor(mesh.z)
        self._aligned = aligned
        self._stretch = 1.0 + self.z
        self._weights, self._distance = tensor(mesh.weights), tensor(mesh.distance)
        self._factor = tensor((ELL * (ELL + 1.0) / (ELL + 0.5) ** 2) ** 2)
        self._row, self._column = torch.tril_indices(self.bins, self.bins, device=device)
        self._projection = Projection(sources, mesh.z, device)
        self._carry = None if mesh.carry is None else tensor(mesh.carry)
        self._table_z = tensor(Z)
        self._table_distance = tensor(COARSE.distance)
        self._shifts_are_resolved = False

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
            OptionError: the distributions are too sharp for spectra that follow a shift smoothly.
        """
        place = self._place(cosmology)
        kernel = self._kernel(place, photo_z_shift, alignment)
        kernel = kernel * (torch.sqrt(self._weights * place.slope) / place.u).unsqueeze(-2)
        products = kernel.index_select(-2, self._row) * kernel.index_select(-2, self._column)
        if self._carry is not None:
            products = products @ self._carry.mT
        return (products @ log_power.exp()) * self._factor

    def kernel(
        self,
        cosmology: Tensor,
        *,
        photo_z_shift: Tensor | None = None,
        alignment: Tensor | None = None,
    ) -> Tensor:
        """W_i at the redshifts z, (..., bins, n); arguments and errors as in a call."""
        return self._kernel(self._place(cosmology), photo_z_shift, alignment)

    def distance(self, cosmology: Tensor) -> Tensor:
        """u = chi H_0 / c at the redshifts z, (..., n), of cosmologies (..., 6)."""
        return self._place(cosmology).u

    def integral(self, cosmology: Tensor, values: Tensor) -> Tensor:
        """The integral over u, (..., bins), of values (..., bins, n) at the redshifts z."""
        return (values * (self._weights * self._place(cosmology).slope).unsqueeze(-2)).sum(-1)

    def carried(self, values: Tensor) -> Tensor:
        """What is known at the redshifts `Z` of the matter power, (..., n_z), at z, (..., n)."""
        return values if self._carry is None else values @ self._carry

    def _place(self, cosmology: Tensor) -> _Place:
        parameters = Cosmology.of(cosmology)
        rate = 1.0 / expansion(parameters, self._table_z)
        u = rate @ self._distance
        if self._carry is None:
            return _Place(parameters, u, rate, u)
        slope = 1.0 / expansion(parameters, self.z)
        return _Place(parameters, u, slope, rate @ self._table_distance)

    def _kernel(self, place: _Place, photo_z_shift: Tensor | None, alignment: Tensor | None) -> Tensor:
        """W_i (..., bins, n)."""
        if alignment is not None and not self._aligned:
            raise TypeError("these spectra were made without alignments")
        if photo_z_shift is not None:
            self._resolve_shifts()
        beyond, inverse, density = self._projection(self._table_z / place.table_u, photo_z_shift)
        strength = 1.5 * place.parameters.omega_m[..., None] * self._stretch * place.u
        lensing = strength.unsqueeze(-2) * (beyond - place.u.unsqueeze(-2) * inverse)
        if alignment is None:
            return lensing
        factor = self._alignment(place.parameters, alignment) / place.slope
        return lensing + factor.unsqueeze(-2) * density

    def _alignment(self, parameters: Cosmology, alignment: Tensor) -> Tensor:
        """F (..., n)."""
        amplitude, slope = (value[..., None] for value in alignment.unbind(-1))
        evolution = torch.exp(slope * torch.log(self._stretch / (1.0 + _ALIGNMENT_PIVOT)))
        strength = -amplitude * _ALIGNMENT * parameters.omega_m[..., None]
        return strength * evolution / growth(parameters, self.z)

    def _resolve_shifts(self) -> None:
        """Take as many terms of the series in the shift as these sources need, once.

        Raises:
            OptionError: no number of terms is enough.
        """
        if self._shifts_are_resolved:
            return
        self._shifts_are_resolved = True
        self._projection.resolve_shifts(SHIFT_TERMS[0])  # first of all, as it refuses bins that are lost
        u = self._place(REFERENCE.to(self.z.device)).table_u
        exact = {shift: self._moved(shift) for shift in _TRIED_SHIFTS}
        errors: dict[int, float] = {}
        for terms in SHIFT_TERMS:
            self._projection.resolve_shifts(terms)
            errors[terms] = max(
                deviation(self, moved, u, aligned=self._aligned, shift=shift)
                for shift, moved in exact.items()
            )
            if errors[terms] < _GOOD_SERIES:
                return
        best = min(errors.values())
        if not best < _WORST_SERIES:
            _refuse_sharp(best)
        enough = next(terms for terms, error in errors.items() if error < _NO_BETTER * best)
        self._projection.resolve_shifts(enough)

    def _moved(self, shift: float) -> Limber:
        return Limber(self.sources.moved(shift), self.z.device, aligned=self._aligned, mesh=self._mesh)


def _coarsest(sources: Sources, aligned: bool) -> Mesh:
    """The redshifts of the matter power where they are as good as the fine mesh, which else it is."""
    fine = fine_mesh(sources)
    if aligned and not is_resolved(sources):
        return fine
    coarsely, finely = (Limber(sources, mesh=mesh) for mesh in (COARSE, fine))
    u = coarsely.distance(REFERENCE)
    return COARSE if deviation(coarsely, finely, u, aligned=False) < _MESH_ERROR else fine


def _refuse_sharp(error: float) -> NoReturn:
    raise OptionError(
        "A redshift distribution is too sharp to be shifted.",
        where="simulator.photo_z_shift, simulator.sources",
        expected=f"spectra of shifted sources right to {_WORST_SERIES:g}",
        got=f"an error of {error:.2g}",
        fix="leave photo_z_shift out and shift planes or tables themselves, or give a smoother n(z)",
    )
