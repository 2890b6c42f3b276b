"""A square patch of pixels, and the linear maps from spectra to power and correlation on it.

On N x N pixels of a patch of solid angle A, the power in mode k is

    P(k) = sum_n C(|k + n k_s|) W^2(k + n k_s),   xi = irfft2(P N^2 / A)

with k_s = 2 pi N / L the sampling wave number, |n| <= 2 the aliases along each axis and W the window of a
square pixel. C at k = 0 is its mean over the cell of that mode, a disc of area (2 pi / L)^2. xi is linear in
C, so the aliases, the window and the transform are one matrix, made once. By the symmetries of the square it
is needed only at lags 0 <= i <= j <= N / 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from sbikit import SpecError

Array = NDArray[np.float64]

# In units of k_s. What is left out is up to 1.5 % of the power in the modes' corner and 0.15 % of the
# variance, in pixels of 19 arcmin; +-1 would leave out 6 % and 0.6 %, +-3 0.5 % and 0.06 %.
_ALIASES = range(-2, 3)
_DISC_NODES = 64  # of the mean over the cell of mode 0; 8 are right to 6e-4, 16 to 1e-4


@dataclass(frozen=True)
class Pixels:
    """A square patch.

    Args:
        size: pixels a side, even.
        extent: side in radians.
        window: whether a pixel holds the mean of the field over its square, which aliases what is smaller.
            Without, mode k has the power C(|k|), as some simulators have it.

    Raises:
        SpecError: the number of pixels is odd, or there are none: the quadrant of modes (quadrant.py) and the
            white numbers (white.py) are those of an even grid.
    """

    size: int
    extent: float
    window: bool = True

    def __post_init__(self) -> None:
        if self.size < 2 or self.size % 2:
            raise SpecError(
                "Convergence is drawn on an even number of pixels a side.",
                where="size",
                expected="an even number, 2 or more",
                got=str(self.size),
                fix="take one pixel more",
            )

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
    aliases = _ALIASES if pixels.window else range(1)
    for n in aliases:
        for m in aliases:
            ky, kx = i + n * pixels.size, j + m * pixels.size
            window = (
                (np.sinc(ky / pixels.size) * np.sinc(kx / pixels.size)) ** 2 if pixels.window else np.ones(1)
            )
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
    nodes, weights = np.polynomial.legendre.leggauss(_DISC_NODES)
    at = 0.5 * radius * (nodes + 1.0)
    return (weights * at / radius) @ _interpolation(ell, at)


def correlation_matrix(pixels: Pixels, ell: Array) -> Array:
    """The matrix from C(ell) to xi at the distinct lags, (n_lags, n_ell)."""
    power = power_matrix(pixels, ell)[pixels.lag_index.ravel()]
    maps = power.T.reshape(len(ell), pixels.size, pixels.size)
    xi = np.fft.ifft2(maps).real * (pixels.size / pixels.extent) ** 2
    return xi[:, *pixels.lags].T
