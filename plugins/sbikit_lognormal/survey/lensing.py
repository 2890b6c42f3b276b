"""Shear and convergence on a periodic flat sky (Kaiser and Squires 1993, doi:10.1086/172297).

    gamma_1 = D_1 kappa,   gamma_2 = D_2 kappa,   D_1 = (k_x^2 - k_y^2) / k^2,   D_2 = 2 k_x k_y / k^2

with x along the last axis and y along the one before it, both growing with the index: gamma_1 > 0 stretches
images along x and gamma_2 > 0 along x = y, so that shear around a mass is tangential. D_1^2 + D_2^2 = 1, so
the inverse is kappa_E = D_1 gamma_1 + D_2 gamma_2, and kappa_B = D_1 gamma_2 - D_2 gamma_1 vanishes.

On the Nyquist row and column of an even grid k_x k_y has no sign and D_2 of a real map must vanish; D_1 is 1
or -1 there, after the larger of |k_x| and |k_y|, so that the round trip stays exact. An odd grid has neither.
Shear carries no mean convergence: D = 0 at k = 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sbikit import SpecError


class KaiserSquires:
    """Both directions of the relation between convergence and shear.

    Modes are those of rfft2 as real arrays (..., N, 2H), H = N // 2 + 1, real and imaginary parts by turns
    along the last axis: all they are multiplied with is real, and a product of real arrays is several times
    faster.

    Args:
        size: pixels a side, even or odd.
        dtype: precision of the maps.
        device: where to compute.

    Raises:
        SpecError: there are no pixels; a method is given maps on another grid.
    """

    def __init__(self, size: int, dtype: torch.dtype, device: torch.device | str = "cpu") -> None:
        if size < 1:
            raise SpecError("A patch needs pixels.", where="size", expected="1 or more", got=str(size))
        self.size, self.dtype, self.device = size, dtype, device
        self._factors = _factors(size).to(device, dtype)

    def shear(self, kappa: Tensor) -> Tensor:
        """Shear (..., 2, N, N) of convergence (..., N, N); source bins are leading axes as any other."""
        return self.shear_of_modes(self._modes(kappa))

    def convergence(self, shear: Tensor) -> Tensor:
        """E mode, convergence of zero mean (..., N, N), of shear (..., 2, N, N)."""
        return self.maps(self.e_modes(shear))

    def b_mode(self, shear: Tensor) -> Tensor:
        """B mode (..., N, N) of shear (..., 2, N, N): zero for lensing alone."""
        one, two = self._modes(shear).unbind(-3)
        d1, d2 = self._factors
        return self.maps(d1 * two - d2 * one)

    def shear_of_modes(self, modes: Tensor) -> Tensor:
        """Shear (..., 2, N, N) of modes of convergence (..., N, 2H)."""
        return self.maps(self._factors * modes.unsqueeze(-3))

    def e_modes(self, shear: Tensor) -> Tensor:
        """Modes of the E mode, (..., N, 2H), of shear (..., 2, N, N)."""
        one, two = self._modes(shear).unbind(-3)
        return torch.addcmul(self._factors[0] * one, self._factors[1], two)

    def maps(self, modes: Tensor) -> Tensor:
        """Maps (..., N, N) of modes (..., N, 2H)."""
        paired = torch.view_as_complex(modes.unflatten(-1, (-1, 2)))
        return torch.fft.irfft2(paired, s=(self.size, self.size))

    def _modes(self, maps: Tensor) -> Tensor:
        """Modes (..., N, 2H) of maps (..., N, N)."""
        if tuple(maps.shape[-2:]) != (self.size, self.size):
            raise SpecError(
                "The maps are not on the grid that shear and convergence are related on.",
                where="Kaiser-Squires",
                expected=f"({self.size}, {self.size}) pixels",
                got=str(tuple(maps.shape[-2:])),
                fix="cut or pad the maps, or make a KaiserSquires of their size; patches are square",
            )
        return torch.view_as_real(torch.fft.rfft2(maps)).flatten(-2)


def _factors(size: int) -> Tensor:
    """D_1 and D_2, (2, N, 2H), every value for the real and for the imaginary part, float64."""
    ky = torch.fft.fftfreq(size, dtype=torch.float64)[:, None]
    kx = torch.fft.rfftfreq(size, dtype=torch.float64)[None, :]
    square = kx**2 + ky**2
    square[0, 0] = 1.0
    d1, d2 = (kx**2 - ky**2) / square, 2 * kx * ky / square
    if size % 2 == 0:
        for edge in (d1[size // 2], d1[:, size // 2]):
            edge.copy_(torch.where(edge < 0, -1.0, 1.0))
        d2[size // 2], d2[:, size // 2] = 0.0, 0.0
    return torch.stack([d1, d2]).repeat_interleave(2, -1)
