"""Log-normal random fields on a periodic flat sky.

With lambda the shift and G a Gaussian field of variance v (Hilbert et al. 2011),

    kappa = lambda [exp(G - v / 2) - 1],     xi_G = log(1 + xi / lambda^2),

where xi is the correlation function of the pixelised convergence and xi_G that of G. On N x N pixels of a
patch of solid angle A, the power in mode k is

    P(k) = sum_n C(|k + n k_s|) W^2(k + n k_s),   xi = irfft2(P N^2 / A),   S = rfft2(xi_G),

with k_s = 2 pi N / L the sampling wave number, |n| <= 2 the aliases along each axis and W the window of a
square pixel. C at k = 0 is its mean over the cell of that mode, a disc of area (2 pi / L)^2. xi is linear in
C, so the aliases, the window and the first transform are one matrix, made once. By the symmetries of the
square it is needed only at lags 0 <= i <= j <= N / 2.

G = irfft2(rfft2(z) sqrt(S)) for white z; real-space and Hartley-space z are both standard normal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from torch import Tensor

Array = NDArray[np.float64]

_ALIASES = range(-2, 3)


@dataclass(frozen=True)
class Pixels:
    """A square patch.

    Args:
        size: pixels a side, even.
        extent: side in radians.
    """

    size: int
    extent: float

    @property
    def lags(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The distinct lags (or modes) 0 <= i <= j <= N/2, two arrays (n_lags,)."""
        return np.triu_indices(self.size // 2 + 1)

    @property
    def lag_index(self) -> NDArray[np.int64]:
        """Which distinct lag each pixel of the (N, N) correlation map has."""
        half = self.size // 2
        i, j = self.lags
        lookup = np.zeros((half + 1, half + 1), dtype=np.int64)
        lookup[i, j] = lookup[j, i] = np.arange(len(i))
        folded = np.abs((np.arange(self.size) + half) % self.size - half)
        return lookup[folded[:, None], folded[None, :]]


def power_matrix(pixels: Pixels, ell: Array) -> Array:
    """The matrix from C(ell) to P(k) at the distinct modes, (n_lags, n_ell).

    Args:
        pixels: the patch.
        ell: multipoles (n_ell,) at which C is tabulated, ascending.
    """
    fundamental = 2 * math.pi / pixels.extent
    i, j = pixels.lags
    total = np.zeros((len(i), len(ell)))
    for n in _ALIASES:
        for m in _ALIASES:
            ky, kx = i + n * pixels.size, j + m * pixels.size
            window = (np.sinc(ky / pixels.size) * np.sinc(kx / pixels.size)) ** 2
            rows = _interpolation(ell, fundamental * np.hypot(ky, kx))
            if n == m == 0:
                rows[0] = _mean_over_disc(ell, fundamental / math.sqrt(math.pi))
            total += window[:, None] * rows
    return total


def _interpolation(ell: Array, at: Array) -> Array:
    """The matrix (n, n_ell) of a cubic spline of ell^1.5 C in log ell; constant C below the first ell."""
    basis = CubicSpline(np.log(ell), np.diag(ell**1.5))
    inside = np.clip(at, ell[0], ell[-1])
    return np.asarray(basis(np.log(inside))) * inside[:, None] ** -1.5


def _mean_over_disc(ell: Array, radius: float) -> Array:
    """The row (n_ell,) that averages C over ell < radius."""
    nodes, weights = np.polynomial.legendre.leggauss(64)
    at = 0.5 * radius * (nodes + 1.0)
    return (weights * at / radius) @ _interpolation(ell, at)


def correlation_matrix(pixels: Pixels, ell: Array) -> Array:
    """The matrix from C(ell) to xi at the distinct lags, (n_lags, n_ell)."""
    power = power_matrix(pixels, ell)[pixels.lag_index.ravel()]
    maps = power.T.reshape(len(ell), pixels.size, pixels.size)
    xi = np.fft.ifft2(maps).real * (pixels.size / pixels.extent) ** 2
    return xi[:, *pixels.lags].T


class LogNormalField:
    """Turns spectra and white numbers into convergence maps.

    Args:
        pixels: the patch.
        ell: multipoles (n_ell,) of the spectra.
        dtype: precision of the maps; the correlation function is float64 in any case.
        device: where to compute.
    """

    def __init__(
        self, pixels: Pixels, ell: Array, dtype: torch.dtype, device: torch.device | str = "cpu"
    ) -> None:
        self.size = pixels.size
        self.dtype = dtype
        self._correlation = torch.from_numpy(correlation_matrix(pixels, ell).T.copy()).to(device)
        self._lag_index = torch.from_numpy(pixels.lag_index.ravel()).to(device)

    def gaussian_power(self, spectrum: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        """Power and variance of the Gaussian field.

        Args:
            spectrum: C(ell), (..., n_ell), float64.
            shift: lambda, (...), float64.

        Returns:
            S of shape (..., N, N/2+1), in which a negative value means that no such log-normal
            field exists, and v of shape (...).
        """
        xi = spectrum @ self._correlation
        gaussian = torch.log1p(xi / shift.unsqueeze(-1) ** 2).to(self.dtype)
        lags = gaussian.index_select(-1, self._lag_index).unflatten(-1, (self.size, self.size))
        return torch.fft.rfft2(lags).real, gaussian[..., 0]

    def convergence(self, white: Tensor, power: Tensor, variance: Tensor, shift: Tensor) -> Tensor:
        """The map kappa (..., N, N).

        Args:
            white: rfft2 of standard normal numbers, (..., N, N/2+1), complex.
            power: S, (..., N, N/2+1).
            variance: v, (...).
            shift: lambda, (...).
        """
        gaussian = torch.fft.irfft2(white * torch.sqrt(power), s=(self.size, self.size))
        return shift[..., None, None] * torch.expm1(gaussian - 0.5 * variance[..., None, None])


def hartley(z: Tensor) -> Tensor:
    """The orthonormal Hartley transform of real maps (..., N, N): its own inverse."""
    modes = torch.fft.fft2(z, norm="ortho")
    return modes.real - modes.imag


def rfft2_of_hartley(w: Tensor) -> Tensor:
    """rfft2 of the maps whose orthonormal Hartley transform is w (..., N, N), without a transform."""
    size = w.shape[-1]
    mirrored = torch.roll(torch.flip(w, (-2, -1)), (1, 1), (-2, -1))
    modes = torch.complex(w + mirrored, mirrored - w)[..., : size // 2 + 1]
    return modes * (0.5 * size)


__all__ = ["LogNormalField", "Pixels", "correlation_matrix", "hartley", "power_matrix", "rfft2_of_hartley"]
