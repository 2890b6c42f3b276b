"""The joint density in white coordinates.

They are those of the parameters' prior, white, and the real and imaginary parts of the white maps' Fourier
modes (see `field.white_modes`). In them

    log f(t, w) = -(|t|^2 + |w|^2 + sum_pixels |d - data(t, w)|^2 / sigma^2) / 2.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from sbikit import Prior
from sbikit_lognormal.field import RandomField, white_modes
from sbikit_lognormal.posterior.density import JointDensity
from sbikit_lognormal.posterior.white_gradient import WhiteGradient
from sbikit_lognormal.spectra import Spectra


class WhiteDensity(JointDensity):
    """In white coordinates.

    Args:
        prior: of the parameters.
        spectra: spectra and shifts of parameter vectors.
        field: the law of the convergence.
        data: what is observed, (B, bins, components, N, N).
        weight: 1 / sigma^2, (bins, N, N).
        noiseless: data without noise, of convergence and parameters.
        quick: the gradient of the same, faster than by autograd.
    """

    def __init__(
        self,
        prior: Prior,
        spectra: Spectra,
        field: RandomField,
        data: Tensor,
        weight: Tensor,
        *,
        noiseless: Callable[[Tensor, Tensor], Tensor],
        quick: WhiteGradient | None = None,
    ) -> None:
        super().__init__(prior, spectra, field)
        self._data, self._weight, self._noiseless = data, weight.unsqueeze(-3), noiseless
        self._quick = quick

    def _gradient(self) -> WhiteGradient | None:
        return self._quick

    def _maps(self, numbers: Tensor, spectra: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        gaussian = self._field.gaussian(spectra, shift)
        kappa = self._field.convergence(white_modes(numbers), gaussian)
        return kappa, -0.5 * numbers.square().sum((-3, -2, -1))

    def _misfit(self, kappa: Tensor, theta: Tensor) -> Tensor:
        difference = self._data - self._noiseless(kappa, theta)
        return (self._weight * difference.square()).sum((-4, -3, -2, -1))
