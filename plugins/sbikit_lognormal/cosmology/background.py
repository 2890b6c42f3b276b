"""The six parameters of a flat wCDM universe and its expansion, differentiable in torch.

Neutrinos are massless and space is flat, so with radiation of density Omega_r

    E^2(z) = Omega_m (1 + z)^3 + Omega_r (1 + z)^4 + (1 - Omega_m - Omega_r) (1 + z)^(3 (1 + w_0))

where Omega_m = Omega_c + Omega_b. Distances are in units of c / H_0.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

PARAMETERS = ("omega_c", "omega_b", "sigma_8", "h", "n_s", "w_0")
"""The six parameters, in the order of every array of cosmologies."""

HUBBLE_DISTANCE = 2997.92458
"""c / (100 km/s/Mpc) in Mpc."""

RADIATION = 4.1837e-5
"""Omega_r h^2 of photons at 2.7255 K and 3.044 massless neutrinos."""


class Cosmology(NamedTuple):
    """Parameters of one or many universes; tensors of one shape, float64.

    The amplitude sigma_8 is that of the linear matter density today in spheres of 8 Mpc/h.
    """

    omega_c: Tensor
    omega_b: Tensor
    sigma_8: Tensor
    h: Tensor
    n_s: Tensor
    w_0: Tensor

    @property
    def omega_m(self) -> Tensor:
        """Matter density."""
        return self.omega_c + self.omega_b

    @classmethod
    def of(cls, values: Tensor) -> Cosmology:
        """From the last axis of (..., 6)."""
        return cls(*values.unbind(-1))


def expansion(cosmology: Cosmology, z: Tensor) -> Tensor:
    """E(z) = H(z) / H_0, (..., n_z), at redshifts (n_z,)."""
    omega_m, w_0 = cosmology.omega_m[..., None], cosmology.w_0[..., None]
    radiation = RADIATION / cosmology.h[..., None] ** 2
    a = 1.0 + z
    dark = (1.0 - omega_m - radiation) * torch.exp(3.0 * (1.0 + w_0) * torch.log(a))
    return torch.sqrt(omega_m * a**3 + radiation * a**4 + dark)
