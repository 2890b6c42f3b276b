"""Kaiser-Squires with a mask.

On the periodic box, D takes convergence to shear (lensing.py), D^T back, and D^T D = 1 but for the mean. M is
1 in observed pixels and 0 in masked ones and outside the patch. The map is the E mode alone that agrees with
the shear where there is any, the least squares of M (gamma - D kappa), by Richardson's iteration from 0,

    kappa <- kappa + omega_i D^T M (gamma - D kappa).

omega = 1 fills the masked pixels with the shear of the map so far (Papoulis 1975, IEEE Trans. Circuits Syst.
22, 735). The iteration leaves prod_i (1 - omega_i mu) of what lies along an eigenvector of D^T M D with
eigenvalue mu in [0, 1]. The 1 / omega_i here are the Chebyshev nodes of [0.2, 1], stretched to end in 1:
modes that the mask spares have mu = 1, and the first step alone makes them exact. On maps of 64 x 64 pixels
four such steps reach what ten of omega = 1 do, in signal and in noise; conjugate gradients take as many, and
their result is not linear in the shear. Stopping early is the regularisation.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sbikit_lognormal.survey.lensing import KaiserSquires
from sbikit_lognormal.survey.patch import cut, embed

# More steps and a lower end follow the signal into the holes at the price of noise there. With noise as of
# LSST the rms error in masked pixels is 0.0167, 0.0179 and 0.0198 after 2, 4 and 8 steps, and 0.0195, 0.0179
# and 0.0165 with the end 0.1, 0.2 and 0.4, where kappa has an rms of 0.0100.
_STEPS = 4
_LOWEST = 0.2  # of the interval whose Chebyshev nodes are the steps


class MaskedKaiserSquires:
    """Kaiser-Squires that fills masked pixels with the E mode.

    Args:
        lensing: of the periodic box, M x M pixels, in its precision and where it computes.
        mask: (N, N), true where shear is observed; M - N is even, M = N where the patch is periodic.
    """

    def __init__(self, lensing: KaiserSquires, mask: Tensor) -> None:
        self._patch, self._lensing = mask.shape[-1], lensing
        self._mask = embed(mask.to(lensing.device, lensing.dtype), lensing.size)
        self._complete = bool(self._mask.all())
        self._steps = [1.0] if self._complete else _richardson_steps()

    def convergence(self, shear: Tensor) -> Tensor:
        """Map (..., N, N), of mean 0, of shear (..., 2, N, N); its values in masked pixels do not matter."""
        observed = embed(shear, self._lensing.size)
        if not self._complete:
            observed = torch.where(self._mask > 0, observed, 0.0)
        data = self._lensing.e_modes(observed)
        modes = self._steps[0] * data
        for step in self._steps[1:]:
            modelled = self._lensing.e_modes(self._mask * self._lensing.shear_of_modes(modes))
            modes = modes + step * (data - modelled)
        kappa = cut(self._lensing.maps(modes), self._patch)
        return kappa - kappa.mean((-2, -1), keepdim=True)


def _richardson_steps() -> list[float]:
    """omega_i, ascending from 1."""
    angles = [math.pi * (2 * i + 1) / (2 * _STEPS) for i in range(_STEPS)]
    nodes = [0.5 * (1 + _LOWEST) + 0.5 * (1 - _LOWEST) * math.cos(angle) for angle in angles]
    return [nodes[0] / node for node in nodes]
