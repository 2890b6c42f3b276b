"""Correlated log-normal and Gaussian random fields on a periodic flat sky.

With lambda_i the shift of bin i and G_i Gaussian fields of variance v_i, log-normal fields are (Hilbert et
al. 2011; Xavier, Abdalla and Joachimi 2016)

    kappa_i = lambda_i [exp(G_i - v_i / 2) - 1],     xi_G,ij = log[1 + xi_ij / (lambda_i lambda_j)],

where xi_ij is the correlation function of the pixelised convergences and xi_G,ij that of the G. On N x N
pixels of a patch of solid angle A, the power in mode k is

    P(k) = sum_n C(|k + n k_s|) W^2(k + n k_s),   xi = irfft2(P N^2 / A),   S = rfft2(xi_G),

with k_s = 2 pi N / L the sampling wave number, |n| <= 2 the aliases along each axis and W the window of a
square pixel. C at k = 0 is its mean over the cell of that mode, a disc of area (2 pi / L)^2. xi is linear in
C, so the aliases, the window and the first transform are one matrix, made once. By the symmetries of the
square it is needed only at lags 0 <= i <= j <= N / 2. The second transform is a cosine transform of the
quadrant 0 <= i, j <= N / 2 along both axes, two products with a small matrix.

In each mode the powers of the bins are a matrix S = U U^T with U upper triangular, and

    G = irfft2(U rfft2(z))

for white z. Such fields exist if and only if no S has a negative eigenvalue: a negative pivot, of one bin
alone or of bins too strongly correlated, is reported and never mended in silence. What can be asked for
is a decorrelation r: between bins xi_G,ij is lowered to (1 - r) xi_G,ij, which leaves every bin's own power.

Gaussian fields are their limit for large lambda: kappa = G with xi_G = xi, so that S = P N^2 / A.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

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
        window: whether a pixel holds the mean of the field over its square, which aliases what is smaller.
            Without, mode k has the power C(|k|), as some simulators have it.
    """

    size: int
    extent: float
    window: bool = True

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
    nodes, weights = np.polynomial.legendre.leggauss(64)
    at = 0.5 * radius * (nodes + 1.0)
    return (weights * at / radius) @ _interpolation(ell, at)


def correlation_matrix(pixels: Pixels, ell: Array) -> Array:
    """The matrix from C(ell) to xi at the distinct lags, (n_lags, n_ell)."""
    power = power_matrix(pixels, ell)[pixels.lag_index.ravel()]
    maps = power.T.reshape(len(ell), pixels.size, pixels.size)
    xi = np.fft.ifft2(maps).real * (pixels.size / pixels.extent) ** 2
    return xi[:, *pixels.lags].T


class ModePower:
    """From spectra to the power S of the pixelised convergences, mode by mode.

    Args:
        pixels: the patch.
        ell: multipoles (n_ell,) of the spectra, ascending.
        dtype: precision.
        device: where to compute.
    """

    def __init__(
        self, pixels: Pixels, ell: Array, dtype: torch.dtype, device: torch.device | str = "cpu"
    ) -> None:
        self._dtype, self._half = dtype, pixels.size // 2 + 1
        matrix = (pixels.size / pixels.extent) ** 2 * power_matrix(pixels, ell).T
        self._matrix = torch.from_numpy(matrix).to(device, dtype)
        lags = pixels.lag_index[: self._half, : self._half]
        self._lags = torch.from_numpy(lags.ravel()).to(device)

    def __call__(self, spectra: Tensor) -> Tensor:
        """S = P N^2 / A, (..., pairs, H, H), on the modes 0 <= k_y, k_x <= N/2, H = N/2 + 1.

        It is rfft2 of the correlation functions, the variance of a mode of rfft2 of the maps over N^2.

        Args:
            spectra: C_ij(ell), (..., pairs, n_ell).
        """
        power = spectra.to(self._dtype) @ self._matrix
        return _on_quadrant(power, self._lags, (self._half, self._half))


@dataclass(frozen=True)
class Gaussian:
    """Gaussian fields, mode by mode.

    Args:
        root: U on the modes 0 <= k_y, k_x <= N/2, (..., pairs, H, H) with H = N/2 + 1; U_ji, j <= i, in the
            place of the pair (i, j).
        variance: v, (..., bins).
        shift: lambda, (..., bins); without bound (..., 0).
        lowest: the smallest pivot in any mode, in units of the bin's mean power, (...). Unless it is above
            zero no such field exists, and `root` holds no sense.
    """

    root: Tensor
    variance: Tensor
    shift: Tensor
    lowest: Tensor


class RandomField(ABC):
    """Turns spectra and white numbers into convergence maps of correlated source bins.

    Everything is differentiable. Pairs of bins are in the order of a row-major lower triangle.

    Args:
        pixels: the patch.
        bins: source bins.
        dtype: precision of the maps and of the correlation functions.
        device: where to compute.
    """

    law: ClassVar[str]
    """What it is called."""
    remedy: ClassVar[str]
    """What a user can do where no such field has the asked spectra."""

    def __init__(
        self, pixels: Pixels, bins: int, dtype: torch.dtype, device: torch.device | str = "cpu"
    ) -> None:
        self.size, self.bins, self.dtype = pixels.size, bins, dtype
        self._first, self._second = torch.tril_indices(bins, bins, device=device)
        self._autos = torch.arange(bins, device=device).add(1).cumsum(0) - 1

    @abstractmethod
    def gaussian(self, spectra: Tensor, shift: Tensor) -> Gaussian:
        """The Gaussian fields behind convergences of these spectra.

        Args:
            spectra: C_ij(ell), (..., pairs, n_ell), float64.
            shift: lambda_i, (..., bins), float64; without bound (..., 0).
        """

    def convergence(self, white: Tensor, gaussian: Gaussian) -> Tensor:
        """The maps kappa_i, (..., bins, N, N).

        Args:
            white: rfft2 of maps of standard normal numbers, (..., bins, N, N/2+1), complex.
            gaussian: of the same leading shape.
        """
        return self.transform(_mixed(white, gaussian.root), gaussian)

    @abstractmethod
    def transform(self, modes: Tensor, gaussian: Gaussian) -> Tensor:
        """The maps kappa_i, (..., bins, N, N), of the modes of G.

        Args:
            modes: rfft2 of the G_i, (..., bins, N, N/2+1), complex; overwritten.
            gaussian: of the same leading shape.
        """

    @abstractmethod
    def regression(self, spectra: Tensor, shift: Tensor) -> tuple[Gaussian, Tensor, Tensor]:
        """The best linear description kappa_i = b_i G_i + rest of each bin alone.

        Args:
            spectra: C_ij(ell), (..., pairs, n_ell), float64.
            shift: lambda_i, (..., bins), float64; without bound (..., 0).

        Returns:
            The Gaussian fields, b (..., bins), and the power of the kappa_i on the quadrant, as S,
            (..., bins, H, H).
        """

    @abstractmethod
    def given_mean(self, mean: Tensor, sd: Tensor) -> tuple[Tensor, Tensor]:
        """What knowing the mean of G over the map makes of the regression and the power of the other modes.

        Args:
            mean: of G, (...).
            sd: its standard deviation, (...).

        Returns:
            A and B, (...): the regression becomes A b and the power A^2 B P.
        """


class GaussianField(RandomField):
    """Gaussian fields.

    Args:
        pixels: the patch.
        ell: multipoles (n_ell,) of the spectra, ascending.
        bins: source bins.
        dtype: precision of the maps and of the power.
        device: where to compute.
    """

    law = "Gaussian"
    remedy = "choose bins that overlap less, or narrow the prior"

    def __init__(
        self,
        pixels: Pixels,
        ell: Array,
        bins: int,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(pixels, bins, dtype, device)
        self._power = ModePower(pixels, ell, dtype, device)
        self._multiplicity = torch.from_numpy(multiplicity(pixels.size)).to(device, dtype)

    def gaussian(self, spectra: Tensor, shift: Tensor) -> Gaussian:
        """See `RandomField`; there is no shift."""
        power = self._power(spectra)
        variance = (power[..., self._autos, :, :] * self._multiplicity).sum((-2, -1)) / self.size**2
        root, lowest = _upper_root(power, variance)
        return Gaussian(root, variance, shift.to(self.dtype), lowest)

    def transform(self, modes: Tensor, gaussian: Gaussian) -> Tensor:
        """See `RandomField`."""
        return torch.fft.irfft2(modes, s=(self.size, self.size))

    def regression(self, spectra: Tensor, shift: Tensor) -> tuple[Gaussian, Tensor, Tensor]:
        """See `RandomField`; there is no rest."""
        power = self._power(spectra)
        gaussian = self.gaussian(spectra, shift)
        return gaussian, torch.ones_like(gaussian.variance), power[..., self._autos, :, :]

    def given_mean(self, mean: Tensor, sd: Tensor) -> tuple[Tensor, Tensor]:
        """See `RandomField`; modes are independent."""
        return torch.ones_like(mean), torch.ones_like(sd)


class LogNormalField(RandomField):
    """Log-normal fields.

    Args:
        pixels: the patch.
        ell: multipoles (n_ell,) of the spectra, ascending.
        bins: source bins.
        dtype: precision of the maps and of the correlation functions.
        device: where to compute.
        decorrelation: fraction by which the correlation of the Gaussian fields of two bins is lowered.
    """

    law = "log-normal"
    remedy = "raise `decorrelation` where bins overlap, raise `shift`, widen the pixels or narrow the prior"

    def __init__(
        self,
        pixels: Pixels,
        ell: Array,
        bins: int,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
        *,
        decorrelation: float = 0.0,
    ) -> None:
        super().__init__(pixels, bins, dtype, device)
        half = pixels.size // 2 + 1
        self._correlation = torch.from_numpy(correlation_matrix(pixels, ell).T.copy()).to(device, dtype)
        # Products of matrices smaller than 16 x 16 are rounded as they happen to lie in memory.
        spare = (0, max(0, 16 - half))
        lags = np.pad(pixels.lag_index[:half, :half], (spare, spare))
        self._lags = torch.from_numpy(lags.ravel()).to(device)
        cosines = np.pad(_cosine_matrix(pixels.size).T, (spare, spare))
        self._cosines = torch.from_numpy(cosines).to(device, dtype)
        kept = torch.where(self._first == self._second, 1.0, 1.0 - decorrelation)
        self._kept = kept.to(device, dtype)[:, None] if decorrelation else None

    def gaussian(self, spectra: Tensor, shift: Tensor) -> Gaussian:
        """See `RandomField`."""
        floors = shift[..., self._first] * shift[..., self._second]
        xi, variance = self._logarithm((spectra / floors.unsqueeze(-1)).to(self.dtype) @ self._correlation)
        root, lowest = _upper_root(self._power(xi), variance)
        return Gaussian(root, variance, shift.to(self.dtype), lowest)

    def transform(self, modes: Tensor, gaussian: Gaussian) -> Tensor:
        """See `RandomField`."""
        modes[..., 0, 0] -= (0.5 * self.size**2) * gaussian.variance
        exponent = torch.fft.irfft2(modes, s=(self.size, self.size))
        contrast = torch.expm1(exponent, out=_reuse(exponent))
        return torch.mul(contrast, gaussian.shift[..., None, None], out=_reuse(contrast, gaussian.shift))

    def regression(self, spectra: Tensor, shift: Tensor) -> tuple[Gaussian, Tensor, Tensor]:
        """See `RandomField`; b = lambda, since kappa and G have the cross-correlation lambda xi_G."""
        floors = shift[..., self._first] * shift[..., self._second]
        xi = spectra.to(self.dtype) @ self._correlation
        logarithm, variance = self._logarithm(xi / floors.unsqueeze(-1).to(self.dtype))
        both = torch.cat([logarithm, xi.index_select(-2, self._autos)], -2)
        power, autos = self._power(both).split([len(self._first), self.bins], -3)
        root, lowest = _upper_root(power, variance)
        return Gaussian(root, variance, shift.to(self.dtype), lowest), shift.to(self.dtype), autos

    def given_mean(self, mean: Tensor, sd: Tensor) -> tuple[Tensor, Tensor]:
        """See `RandomField`; the field becomes one of the shift A lambda and of less variance."""
        variance = sd.square()
        return torch.exp(mean - 0.5 * variance), torch.exp(-variance)

    def _logarithm(self, contrast: Tensor) -> tuple[Tensor, Tensor]:
        """xi_G (..., pairs, n_lags) and v (..., bins) of xi_ij / (lambda_i lambda_j), perhaps overwritten."""
        xi = torch.log1p(contrast, out=_reuse(contrast))
        variance = xi[..., 0].index_select(-1, self._autos)
        if self._kept is not None:
            xi = torch.mul(xi, self._kept, out=_reuse(xi))
        return xi, variance

    def _power(self, xi: Tensor) -> Tensor:
        """S (..., pairs, H, H) on the quadrant, of xi_G (..., pairs, n_lags)."""
        half = self.size // 2 + 1
        square = tuple(self._cosines.shape)
        quadrant = _on_quadrant(xi, self._lags, square)
        return ((quadrant @ self._cosines).mT @ self._cosines)[..., :half, :half]


def _on_quadrant(values: Tensor, lags: Tensor, square: tuple[int, ...]) -> Tensor:
    """Values at the distinct lags (..., n_lags), at the lags of a square (..., *square)."""
    return values.gather(-1, lags.expand(*values.shape[:-1], -1)).unflatten(-1, square)


def _mixed(white: Tensor, root: Tensor) -> Tensor:
    """U times white modes, of the same shape.

    Args:
        white: white modes (..., bins, N, H), complex.
        root: U, (..., pairs, H, H).
    """
    numbers = torch.view_as_real(white)
    last = white.shape[-3] - 1
    total = _on_half_plane(root[..., _pairs_of(last), :, :]) * numbers[..., last:, :, :, :]
    for i in reversed(range(last)):
        row = _on_half_plane(root[..., _pairs_of(i), :, :])
        total[..., : i + 1, :, :, :].addcmul_(row, numbers[..., i : i + 1, :, :, :])
    return torch.view_as_complex(total)


def _pairs_of(i: int) -> slice:
    """Where the pairs (i, 0) to (i, i) stand."""
    return slice(i * (i + 1) // 2, (i + 1) * (i + 2) // 2)


def _reuse(result: Tensor, *others: Tensor) -> Tensor | None:
    """`result` as the place to write to, unless a gradient needs it as it is."""
    return None if any(tensor.requires_grad for tensor in (result, *others)) else result


def _upper_root(power: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """U with U U^T = S, in the place of S, and the lowest pivot, (...), minus infinity where it is NaN.

    Eliminating the last bin first leaves every row of pairs contiguous.

    Args:
        power: S, (..., pairs, H, H); overwritten where no gradient is asked for.
        variance: v, (..., bins).
    """
    bins = variance.shape[-1]
    rows = [power[..., _pairs_of(i), :, :] for i in range(bins)]
    lowest = torch.full_like(variance[..., 0], torch.inf, requires_grad=False)
    for i in reversed(range(bins)):
        pivot = rows[i][..., i:, :, :]
        lowest = _lower(lowest, pivot.detach().amin((-3, -2, -1)) / variance[..., i].detach())
        rows[i] = torch.mul(rows[i], torch.rsqrt(pivot), out=_reuse(rows[i]))
        for k in range(i):
            column = rows[i][..., k : k + 1, :, :]
            rows[k] = torch.addcmul(
                rows[k], column, rows[i][..., : k + 1, :, :], value=-1.0, out=_reuse(rows[k])
            )
    root = torch.cat(rows, -3) if power.requires_grad else power
    return root, lowest.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)


def _lower(lowest: Tensor, pivot: Tensor) -> Tensor:
    """The lower of two pivots (...), unless the first has failed: what follows a failure holds no sense."""
    return torch.where(lowest > 0, torch.minimum(lowest, pivot), lowest)


def _cosine_matrix(size: int) -> Array:
    """The type-1 cosine transform (H, H): the Fourier transform of a real, even function of N points."""
    k = np.arange(size // 2 + 1)
    return np.cos(2.0 * np.pi * (np.outer(k, k) % size) / size) * _twice(size)


def multiplicity(size: int) -> Array:
    """How many of the N x N modes each of the quadrant stands for, (H, H)."""
    return np.outer(_twice(size), _twice(size))


def _twice(size: int) -> Array:
    """How many of N wave numbers each of 0 to N/2 stands for, (H,)."""
    k = np.arange(size // 2 + 1)
    return np.where((k == 0) | (k == size // 2), 1.0, 2.0)


def _on_half_plane(quadrant: Tensor) -> Tensor:
    """Real factors (..., H, H) of the modes as those of the parts of an rfft2, (..., N, H, 2)."""
    plane = torch.cat([quadrant, quadrant[..., 1:-1, :].flip(-2)], -2)
    return torch.view_as_real(torch.complex(plane, plane))


def white_modes(w: Tensor) -> Tensor:
    """White modes (..., N, N/2+1), as rfft2 of a map of standard normal numbers has, without a transform.

    The N^2 numbers are the orthonormal cosine and sine coefficients of that map: column pairs (2 m, 2 m + 1)
    are the real and imaginary parts at k_x = m, and the first pair holds the modes of k_x = 0 and of the
    Nyquist column, each as a Hartley transform along k_y.

    Args:
        w: standard normal numbers (..., N, N), contiguous.
    """
    size = w.shape[-1]
    pairs = torch.view_as_complex(w.unflatten(-1, (size // 2, 2)))
    modes = torch.empty(*w.shape[:-1], size // 2 + 1, dtype=pairs.dtype, device=w.device)
    modes[..., 1:-1] = pairs[..., 1:]
    columns = w[..., :2]
    mirrored = torch.cat([columns[..., :1, :], columns[..., 1:, :].flip(-2)], -2)
    modes[..., :: size // 2] = torch.complex(mirrored + columns, mirrored - columns) * math.sqrt(0.5)
    return modes.mul_(size * math.sqrt(0.5))


def white_numbers(modes: Tensor) -> Tensor:
    """The numbers (..., N, N) of which `white_modes` makes these modes.

    Args:
        modes: rfft2 of real maps, (..., N, N/2+1), complex.
    """
    size = modes.shape[-2]
    modes = modes / (size * math.sqrt(0.5))
    inner = torch.view_as_real(modes[..., 1:-1].contiguous())
    columns = modes[..., :: size // 2]
    edge = (columns.real - columns.imag) * math.sqrt(0.5)
    return torch.cat([edge.unsqueeze(-2), inner], -2).flatten(-2)


__all__ = [
    "Gaussian",
    "GaussianField",
    "LogNormalField",
    "ModePower",
    "Pixels",
    "RandomField",
    "correlation_matrix",
    "multiplicity",
    "power_matrix",
    "white_modes",
    "white_numbers",
]
