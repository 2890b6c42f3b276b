"""Gaussian random fields: the limit of log-normal ones for large lambda, kappa = G with S = P N^2 / A."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sbikit_lognormal.field.power import ModePower
from sbikit_lognormal.field.quadrant import multiplicity
from sbikit_lognormal.field.random_field import Gaussian, LinearModes, RandomField
from sbikit_lognormal.field.roots import upper_root


@dataclass(frozen=True, eq=False)
class GaussianConvergence(RandomField):
    """Gaussian fields; arguments as of `RandomField`."""

    law = "Gaussian"
    bounded = False
    remedy = "choose bins that overlap less, or narrow the prior"

    @cached_property
    def _power(self) -> ModePower:
        return ModePower(self.pixels, self.ell, self.dtype, self.device)

    @cached_property
    def _multiplicity(self) -> Tensor:
        return torch.from_numpy(multiplicity(self.size)).to(self.device, self.dtype)

    def gaussian(self, spectra: Tensor, shift: Tensor) -> Gaussian:
        """See `RandomField`; there is no shift."""
        power = self._power(spectra)
        variance = (power[..., self._autos, :, :] * self._multiplicity).sum((-2, -1)) / self.size**2
        root, lowest = upper_root(power, variance)
        return Gaussian(root, variance, shift.to(self.dtype), lowest)

    def transform(self, modes: Tensor, gaussian: Gaussian) -> Tensor:
        """See `RandomField`."""
        return torch.fft.irfft2(modes, s=(self.size, self.size))

    def described(self, spectra: Tensor, shift: Tensor) -> LinearModes:
        """See `RandomField`; there is no rest."""
        power = self._power(spectra)
        gaussian = self.gaussian(spectra, shift)
        return LinearModes(gaussian, torch.ones_like(gaussian.variance), power[..., self._autos, :, :])

    def given_mean(self, mean: Tensor, sd: Tensor) -> tuple[Tensor, Tensor]:
        """See `RandomField`; modes are independent."""
        return torch.ones_like(mean), torch.ones_like(sd)
