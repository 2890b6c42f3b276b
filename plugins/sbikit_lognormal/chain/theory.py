"""Spectra, shifts and powers of parameter vectors on one device, float64."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from sbikit_lognormal.chain.model import Model
from sbikit_lognormal.cosmology import evenly
from sbikit_lognormal.field import ModePower
from sbikit_lognormal.spectra import ELL, make_spectra


class Theory:
    """What does not depend on the precision of maps.

    Args:
        model: what is described.
        device: where to compute.

    Attributes:
        spectra: spectra and shifts of parameter vectors.
    """

    def __init__(self, model: Model, device: torch.device) -> None:
        self._model, self._device = model, device
        self.spectra = make_spectra(model.options, model.parameters, model.sources, device)

    def mode_power(self, theta: Tensor) -> Tensor:
        """S of parameters (..., D) on the periodic box, (..., pairs, H, H); see `field.ModePower`."""
        return self._power(self.spectra(theta)[0])

    def typical_quadrant(self) -> Tensor:
        """S at the prior's median, (pairs, H, H)."""
        prior = self._model.prior
        median = prior.from_white(torch.zeros(len(prior.laws), dtype=torch.float64))
        return self.mode_power(median.to(self._device))

    def typical_power(self) -> Tensor:
        """The same on the half plane, (pairs, M, M/2+1)."""
        quadrant = self.typical_quadrant()
        return torch.cat([quadrant, quadrant[:, 1:-1].flip(-2)], -2)

    def powers_of_data(self, count: int) -> Tensor:
        """S of parameters evenly from the prior, times (1 + m) of both bins, (count, pairs, H, H)."""
        theta = evenly(self._model.prior, count).to(self._device)
        power = self.mode_power(theta)
        bias = self._model.parameters.shear_bias(theta)
        if bias is None:
            return power
        first, second = torch.tril_indices(self._model.bins, self._model.bins)
        gain = 1.0 + bias.expand(count, self._model.bins)
        return power * (gain[:, first] * gain[:, second])[..., None, None]

    @cached_property
    def _power(self) -> ModePower:
        return ModePower(self._model.pixels, ELL, torch.float64, self._device)
