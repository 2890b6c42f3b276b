"""Shear and convergence on a periodic flat sky (Kaiser and Squires 1993, doi:10.1086/172297).

    gamma_1 = D_1 kappa,   gamma_2 = D_2 kappa,   D_1 = (k_x^2 - k_y^2) / k^2,   D_2 = 2 k_x k_y / k^2

with x along the last axis and y along the one before it. D_1^2 + D_2^2 = 1, so the inverse is
kappa_E = D_1 gamma_1 + D_2 gamma_2, and kappa_B = D_1 gamma_2 - D_2 gamma_1 vanishes. On the Nyquist row and
column of an even grid k_x k_y has no sign and D_2 of a real map must vanish; with D_1 = 1 there the
round trip stays exact. Shear carries no mean convergence: D = 0 at k = 0.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


class KaiserSquires:
    """Both directions of the relation between convergence and shear.

    Args:
        size: pixels a side, even.
        dtype: precision of the maps.
        device: where to compute.
    """

    def __init__(self, size: int, dtype: torch.dtype, device: torch.device | str = "cpu") -> None:
        self.size = size
        self._d1, self._d2 = (factor.to(device, dtype) for factor in _factors(size))

    def shear(self, kappa: Tensor) -> Tensor:
        """Shear (..., 2, N, N) of convergence (..., N, N)."""
        modes = torch.fft.rfft2(kappa)
        return self._back(torch.stack([self._d1 * modes, self._d2 * modes], dim=-3))

    def convergence(self, shear: Tensor) -> Tensor:
        """E mode, convergence of zero mean (..., N, N), of shear (..., 2, N, N)."""
        one, two = torch.fft.rfft2(shear).unbind(-3)
        return self._back(self._d1 * one + self._d2 * two)

    def b_mode(self, shear: Tensor) -> Tensor:
        """B mode (..., N, N) of shear (..., 2, N, N): zero for lensing alone."""
        one, two = torch.fft.rfft2(shear).unbind(-3)
        return self._back(self._d1 * two - self._d2 * one)

    def _back(self, modes: Tensor) -> Tensor:
        return torch.fft.irfft2(modes, s=(self.size, self.size))


def _factors(size: int) -> tuple[Tensor, Tensor]:
    """D_1 and D_2, (N, N/2+1), float64."""
    ky = torch.fft.fftfreq(size, dtype=torch.float64)[:, None]
    kx = torch.fft.rfftfreq(size, dtype=torch.float64)[None, :]
    square = kx**2 + ky**2
    square[0, 0] = 1.0
    d1, d2 = (kx**2 - ky**2) / square, 2 * kx * ky / square
    for factor, value in ((d1, 1.0), (d2, 0.0)):
        factor[size // 2, :] = value
        factor[:, size // 2] = value
    return d1, d2


def shape_noise(sigma_e: float, n_gal: float, size: int, extent: float) -> float:
    """Standard deviation of the noise on one shear component of one pixel.

    Args:
        sigma_e: ellipticity dispersion a component.
        n_gal: galaxies per square arcminute.
        size: pixels a side.
        extent: side in degrees.
    """
    pixel = extent * 60.0 / size
    return sigma_e / math.sqrt(n_gal * pixel**2)


__all__ = ["KaiserSquires", "shape_noise"]
