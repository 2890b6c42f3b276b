"""The joint density in coordinates that know the data of several bins, with any noise and mask.

The white numbers w are replaced by u of which they are made as joint_conditioning.py has it:

    log f(t, u) = log f(t, w(t, u)) + log |dw / du|.

For Gaussian fields seen with even noise on a periodic patch u is N(0, 1) whatever t, else nearly so.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from sbikit import Prior
from sbikit_lognormal.field import RandomField, white_modes
from sbikit_lognormal.posterior.joint_conditioning import Known, times_root, times_transposed
from sbikit_lognormal.posterior.layout import on_numbers
from sbikit_lognormal.posterior.white import WhiteDensity
from sbikit_lognormal.posterior.white_gradient import WhiteGradient
from sbikit_lognormal.spectra import Spectra


class JointlyConditionedDensity(WhiteDensity):
    """In coordinates that know the data.

    Args:
        prior: of the parameters.
        spectra: spectra and shifts of parameter vectors.
        field: the law of the convergence.
        data: what is observed, (B, bins, components, N, N).
        weight: 1 / sigma^2, (bins, N, N).
        noiseless: data without noise, of convergence and parameters.
        known: what the coordinates know of the data.
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
        known: Known,
        quick: WhiteGradient | None = None,
    ) -> None:
        super().__init__(prior, spectra, field, data, weight, noiseless=noiseless, quick=quick)
        self._known = known

    def _maps(self, numbers: Tensor, spectra: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        modes = self._field.described(spectra, shift)
        data = self._known.numbers
        factors = self._known.conditioning.factors(modes, numbers[..., 0, 0], data[..., 0, 0])
        root = on_numbers(factors.root)
        mixed = numbers + times_transposed(root, on_numbers(factors.response) * data)
        gaussian = times_root(root, mixed)
        less = mixed.square() - on_numbers(factors.precision) * gaussian.square()
        kappa = self._field.transform(white_modes(gaussian), modes.gaussian)
        return kappa, factors.log_det - 0.5 * less.sum((-3, -2, -1))
