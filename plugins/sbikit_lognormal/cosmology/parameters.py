"""What a draw's parameters say: the cosmology and the nuisances, each free or fixed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sbikit import Prior
from sbikit_lognormal.cosmology.background import PARAMETERS

FIXED = {"h": 0.6727, "omega_b": 0.0492, "n_s": 0.9645}
"""What the prior `s8` holds fixed: the values of Planck Collaboration XIII (2016), table 4, TT,TE,EE+lowP."""


@dataclass(frozen=True)
class Parameters:
    """The parameter vector and what stands in it.

    Args:
        prior: laws of the free parameters.
        fixed: values of the others.
        bins: source bins.
        lensing: how many free parameters, the first ones, the spectra depend on.
    """

    prior: Prior
    fixed: Mapping[str, float]
    bins: int
    lensing: int

    def cosmology(self, theta: Tensor) -> Tensor:
        """The six parameters (..., 6), float64, of parameter vectors (..., D)."""
        if "S8" not in self.prior.laws:
            return torch.stack([self._value(theta, name) for name in PARAMETERS], -1)
        omega_m, s8, w_0 = (self._value(theta, name) for name in ("Omega_m", "S8", "w0"))
        h, omega_b, n_s = (torch.full_like(s8, FIXED[name]) for name in ("h", "omega_b", "n_s"))
        return torch.stack([omega_m - omega_b, omega_b, s8 * torch.sqrt(0.3 / omega_m), h, n_s, w_0], -1)

    @property
    def aligned(self) -> bool:
        """Whether there are intrinsic alignments."""
        return self.fixed.get("A_IA") != 0.0

    def alignment(self, theta: Tensor) -> Tensor | None:
        """A_IA and eta_IA, (..., 2); None where there is no alignment."""
        if not self.aligned:
            return None
        return torch.stack([self._value(theta, name) for name in ("A_IA", "eta_IA")], -1)

    def log_t_agn(self, theta: Tensor) -> Tensor | None:
        """log T_AGN (...); None without feedback."""
        if "log_T_AGN" in self.prior.laws or "log_T_AGN" in self.fixed:
            return self._value(theta, "log_T_AGN")
        return None

    def photo_z_shift(self, theta: Tensor) -> Tensor | None:
        """Shift of each bin's redshifts (..., bins); None where there is none."""
        return self._bins(theta, "dz")

    def shear_bias(self, theta: Tensor) -> Tensor | None:
        """Multiplicative bias of each bin (..., bins); None where there is none."""
        return self._bins(theta, "m")

    def _bins(self, theta: Tensor, name: str) -> Tensor | None:
        names = [f"{name}_{i + 1}" for i in range(self.bins)]
        if all(self.fixed.get(one) == 0.0 for one in names):
            return None
        return torch.stack([self._value(theta, one) for one in names], -1)

    def _value(self, theta: Tensor, name: str) -> Tensor:
        column = theta[..., 0].double()
        if name in self.fixed:
            return torch.full_like(column, self.fixed[name])
        return theta[..., list(self.prior.laws).index(name)].double()
