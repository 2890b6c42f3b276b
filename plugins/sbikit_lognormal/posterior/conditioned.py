"""The joint density in coordinates that know the data.

For one source bin on a periodic patch with the same noise in every pixel the white numbers w are replaced by
u, of which w is made as if the convergence were the linear function of the Gaussian field that describes it
best (conditioning.py), so that with c the share of a mode's variance that the data leave

    log f(t, u) = log f(t, w(t, u)) + 1/2 sum_modes log c.

For a Gaussian field that is Wiener's posterior: u is then N(0, 1) whatever t, and t independent of u. For a
log-normal one u stays nearly so, and what is left of the dependence a sampler has to find. On a periodic
patch shear is a rotation of the modes of kappa, so only its E mode, a map of zero mean, is compared with.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sbikit import Prior
from sbikit_lognormal.field import white_modes, white_numbers
from sbikit_lognormal.posterior.conditioning import Conditioning
from sbikit_lognormal.posterior.density import JointDensity
from sbikit_lognormal.posterior.factors import FittedFactors
from sbikit_lognormal.posterior.gradient import QuickGradient
from sbikit_lognormal.spectra import Spectra


class ConditionedDensity(JointDensity):
    """In coordinates that know the data.

    Args:
        prior: of the parameters.
        spectra: spectra and shifts of parameter vectors.
        conditioning: what data say of the modes of the field, of one bin.
        data: convergence with noise, (B, 1, N, N).
        fitted: for a gradient faster than that by autograd.
    """

    def __init__(
        self,
        prior: Prior,
        spectra: Spectra,
        conditioning: Conditioning,
        data: Tensor,
        fitted: FittedFactors | None = None,
    ) -> None:
        super().__init__(prior, spectra, conditioning.field)
        self._data, self._conditioning, self._fitted = data, conditioning, fitted
        self._numbers = white_numbers(torch.fft.rfft2(data))

    def _gradient(self) -> QuickGradient | None:
        fitted = self._fitted
        if fitted is None:
            return None
        return QuickGradient(fitted, self._conditioning, self._numbers, self._data)

    def _maps(self, numbers: Tensor, spectra: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        modes = self._field.described(spectra, shift)
        white, log_det = self._conditioning.white(modes, self._numbers, numbers)
        kappa = self._field.convergence(white_modes(white), modes.gaussian)
        return kappa, log_det - 0.5 * white.square().sum((-3, -2, -1))

    def _misfit(self, kappa: Tensor, theta: Tensor) -> Tensor:
        del theta
        difference = kappa - self._data
        total = difference.square().sum((-3, -2, -1))
        if not self._conditioning.mean_seen:
            total = total - difference.sum((-3, -2, -1)).square() / (self._field.size**2)
        return total / self._conditioning.variance
