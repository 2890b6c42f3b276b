"""The joint density for any noise and mask, in coordinates that are white or know the data.

White coordinates are those of the parameters' prior, white, and the real and imaginary parts of the white
maps' Fourier modes (see `field.white_modes`). In them

    log f(t, w) = -(|t|^2 + |w|^2 + sum_pixels |d - data(t, w)|^2 / sigma^2) / 2.

In others u, of which w is made as joint_conditioning.py has it,

    log f(t, u) = log f(t, w(t, u)) + log |dw / du|.

Of Gaussian fields that are seen with even noise on a periodic patch u is N(0, 1) whatever t, else nearly so.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from sbikit import Prior
from sbikit_lognormal.field import RandomField, white_modes
from sbikit_lognormal.posterior.density import JointDensity
from sbikit_lognormal.posterior.joint_conditioning import Known, times_root, times_transposed
from sbikit_lognormal.posterior.layout import on_numbers
from sbikit_lognormal.posterior.survey_gradient import SurveyGradient
from sbikit_lognormal.spectra import Spectra


class SurveyDensity(JointDensity):
    """For any noise and mask.

    Args:
        prior: of the parameters.
        spectra: spectra and shifts of parameter vectors.
        field: the law of the convergence.
        data: what is observed, (B, bins, components, N, N).
        weight: 1 / sigma^2, (bins, N, N).
        noiseless: data without noise, of convergence and parameters.
        known: what the coordinates know of the data; None: they are white.
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
        known: Known | None = None,
        quick: SurveyGradient | None = None,
    ) -> None:
        super().__init__(prior, spectra, field)
        self._data, self._weight, self._noiseless = data, weight.unsqueeze(-3), noiseless
        self._known, self._quick = known, quick

    def _gradient(self) -> SurveyGradient | None:
        return self._quick

    def _maps(self, numbers: Tensor, spectra: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        known = self._known
        if known is None:
            gaussian = self._field.gaussian(spectra, shift)
            kappa = self._field.convergence(white_modes(numbers), gaussian)
            return kappa, -0.5 * numbers.square().sum((-3, -2, -1))
        modes = self._field.described(spectra, shift)
        factors = known.conditioning.factors(modes, numbers[..., 0, 0], known.numbers[..., 0, 0])
        root = on_numbers(factors.root)
        mixed = numbers + times_transposed(root, on_numbers(factors.response) * known.numbers)
        field = times_root(root, mixed)
        less = mixed.square() - on_numbers(factors.precision) * field.square()
        kappa = self._field.transform(white_modes(field), modes.gaussian)
        return kappa, factors.log_det - 0.5 * less.sum((-3, -2, -1))

    def _misfit(self, kappa: Tensor, theta: Tensor) -> Tensor:
        difference = self._data - self._noiseless(kappa, theta)
        return (self._weight * difference.square()).sum((-4, -3, -2, -1))
