"""Spectra, shifts and powers of parameter vectors on one device, float64."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from sbikit_lognormal.chain.model import Model
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

    def typical_power(self) -> Tensor:
        """S at the prior's median on the half plane, (pairs, M, M/2+1)."""
        prior = self._model.prior
        median = prior.from_white(torch.zeros(len(prior.laws), dtype=torch.float64))
        quadrant = self.mode_power(median.to(self._device))
        return torch.cat([quadrant, quadrant[:, 1:-1].flip(-2)], -2)

    @cached_property
    def _power(self) -> ModePower:
        return ModePower(self._model.pixels, ELL, torch.float64, self._device)
