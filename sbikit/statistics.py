"""Statistics of real fields on a regular, periodic grid of one, two or three axes.

Power spectrum. A field f with N = prod(n_i) pixels on a box of volume V = prod(L_i) has the discrete
Fourier transform F(m) = sum_x f(x) exp(-2 pi i sum_i m_i x_i / n_i), and mode m the wave number
k_i = 2 pi m_i / L_i. The estimate is

    P(k) = V / N^2 <|F|^2>    averaged over the modes of a bin of |k|,

so that white noise of variance s^2 has P = s^2 V / N, and Parseval's theorem reads
sum over all modes of P / V = mean(f^2). The mode k = 0 is in no bin. In two dimensions and radians, k is
the flat-sky multipole l and P the flat-sky C_l, without a pixel-window correction. The standard error
of one map's P from the finite number of modes is P sqrt(2 / modes) for a Gaussian field.

Cross spectra use Re(F conj(G)); the correlation coefficient is r(k) = P_fg / sqrt(P_ff P_gg).
Binning and normalisation follow Peebles, The Large-Scale Structure of the Universe (1980), section 41.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sbikit.errors import SpecError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Spectrum:
    """An isotropic power spectrum of K bins.

    Args:
        k: mean wave number of the modes of each bin, (K,), in radians a unit of extent.
        power: (*batch, K), in unit^2 extent_unit^d.
        modes: number of modes of each bin, (K,), a mode and its conjugate counted as two.
    """

    k: Floats
    power: Floats
    modes: Floats


@dataclass(frozen=True)
class Moments:
    """One-point moments over the pixels, each (*batch,); skewness and kurtosis are 0 for a Gaussian."""

    mean: Floats
    sd: Floats
    skewness: Floats
    kurtosis: Floats


def power_spectrum(field: ArrayLike, extent: tuple[float, ...], *, bins: int | None = None) -> Spectrum:
    """The isotropic power spectrum of each field.

    Args:
        field: (*batch, *grid), real; the grid is the last `len(extent)` axes.
        extent: size of the box along each grid axis.
        bins: bins of equal width in |k| up to the smallest Nyquist wave number; one for each
            fundamental wave number 2 pi / max(extent) where left out.

    Raises:
        SpecError: the extent does not fit the field, or the field has no mode below Nyquist.
    """
    return cross_spectrum(field, field, extent, bins=bins)


def cross_spectrum(
    first: ArrayLike, second: ArrayLike, extent: tuple[float, ...], *, bins: int | None = None
) -> Spectrum:
    """The isotropic cross spectrum of two sets of fields, whose batches broadcast.

    Args and errors are those of `power_spectrum`.
    """
    f, g = np.asarray(first), np.asarray(second)
    grid = _grid(f, extent)
    if g.shape[-len(grid) :] != grid:
        raise SpecError("The two fields differ in grid.", expected=str(grid), got=str(g.shape))
    label, k, modes, weight = _rings(grid, extent, bins)
    batch = np.broadcast_shapes(f.shape[: -len(grid)], g.shape[: -len(grid)])
    f = np.broadcast_to(f, (*batch, *grid)).reshape(-1, *grid)
    g = f if second is first else np.broadcast_to(g, (*batch, *grid)).reshape(-1, *grid)
    scale = math.prod(extent) / math.prod(grid) ** 2
    rows = [_ring_sums(f[i], g[i], label, weight, len(k) + 1) for i in range(len(f))]
    power = scale * np.array(rows).reshape(*batch, -1)[..., :-1] / modes
    return Spectrum(k, power, modes)


def correlation(
    first: ArrayLike, second: ArrayLike, extent: tuple[float, ...], *, bins: int | None = None
) -> Spectrum:
    """The correlation coefficient r(k) of two sets of fields, in `power`; 0 where a field has no power."""
    cross = cross_spectrum(first, second, extent, bins=bins)
    f = power_spectrum(first, extent, bins=bins).power
    g = power_spectrum(second, extent, bins=bins).power
    norm = np.broadcast_to(np.sqrt(f * g), cross.power.shape)
    r = np.divide(cross.power, norm, out=np.zeros_like(cross.power), where=norm > 0)
    return Spectrum(cross.k, r, cross.modes)


def _grid(field: NDArray[np.generic], extent: tuple[float, ...]) -> tuple[int, ...]:
    d = len(extent)
    if not 1 <= d <= 3 or field.ndim < d or min(extent) <= 0:
        raise SpecError(
            "The extent does not fit the field.",
            where="power spectrum",
            expected="one positive size for each of one, two or three grid axes",
            got=f"extent {extent} for a field of shape {field.shape}",
        )
    return field.shape[-d:]


def _rings(
    grid: tuple[int, ...], extent: tuple[float, ...], bins: int | None
) -> tuple[NDArray[np.intp], Floats, Floats, Floats]:
    """Bin of every mode of the half-space transform, mean |k| and modes a bin, and weight of every mode.

    Modes outside every bin carry the label K. A mode of the half space stands for two, except on the
    planes m = 0 and, for an even axis, Nyquist of the last axis.
    """
    steps = [size / n for size, n in zip(extent, grid, strict=True)]
    axes = [2 * np.pi * np.fft.fftfreq(n, step) for n, step in zip(grid[:-1], steps[:-1], strict=True)]
    axes.append(2 * np.pi * np.fft.rfftfreq(grid[-1], steps[-1]))
    size = np.sqrt(sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij", sparse=True)))
    weight = np.full(size.shape, 2.0)
    weight[..., 0] = 1.0
    if grid[-1] % 2 == 0:
        weight[..., -1] = 1.0
    fundamental = 2 * np.pi / max(extent)
    nyquist = min(np.pi / step for step, n in zip(steps, grid, strict=True) if n > 1 or len(grid) == 1)
    count = bins or max(1, round(nyquist / fundamental))
    edges = np.linspace(0.5 * fundamental, nyquist + 0.5 * fundamental, count + 1)
    label = np.searchsorted(edges, size.ravel(), side="right") - 1
    label[(label < 0) | (label >= count)] = count
    modes = _bincount(label, weight.ravel(), count + 1)[:-1]
    total = _bincount(label, (weight * size).ravel(), count + 1)[:-1]
    filled = modes > 0
    if not filled.any():
        raise SpecError("The grid has no mode to take a spectrum of.", where="power spectrum", got=str(grid))
    last = int(filled.sum())
    renumber = np.append(np.where(filled, np.cumsum(filled) - 1, last), last).astype(np.intp)
    return renumber[label], total[filled] / modes[filled], modes[filled], weight.ravel()


def _ring_sums(
    f: NDArray[np.generic], g: NDArray[np.generic], label: NDArray[np.intp], weight: Floats, count: int
) -> Floats:
    """Sum of weight Re(F conj(G)) of one pair of maps over each bin, (count,)."""
    a = np.fft.rfftn(np.asarray(f, np.float64))
    b = a if g is f else np.fft.rfftn(np.asarray(g, np.float64))
    product = a.real * b.real + a.imag * b.imag
    return _bincount(label, weight * product.ravel(), count)


def _bincount(label: NDArray[np.intp], weight: Floats, count: int) -> Floats:
    return np.asarray(np.bincount(label, weight, count), np.float64)


def histogram(field: ArrayLike, edges: ArrayLike, *, axes: int) -> Floats:
    """One-point density of each field: integrates to the fraction of pixels inside the edges.

    Args:
        field: (*batch, *grid).
        edges: (K + 1,), rising.
        axes: number of grid axes.

    Returns:
        (*batch, K), in 1 / unit.
    """
    values, borders = np.asarray(field, np.float64), np.asarray(edges, np.float64)
    batch = values.shape[: values.ndim - axes]
    rows = values.reshape(math.prod(batch), -1)
    counts = np.array([np.histogram(row, borders)[0] for row in rows], np.float64)
    return (counts / rows.shape[1] / np.diff(borders)).reshape(*batch, -1)


def moments(field: ArrayLike, *, axes: int) -> Moments:
    """Mean, standard deviation, skewness and excess kurtosis over the last `axes` axes."""
    values = np.asarray(field, np.float64)
    over = tuple(range(-axes, 0))
    mean = values.mean(over)
    centred = values - values.mean(over, keepdims=True)
    variance = (centred**2).mean(over)
    safe = np.where(variance > 0, variance, 1.0)
    return Moments(
        mean=mean,
        sd=np.sqrt(variance),
        skewness=(centred**3).mean(over) / safe**1.5,
        kurtosis=np.where(variance > 0, (centred**4).mean(over) / safe**2 - 3.0, 0.0),
    )


__all__ = [
    "Moments",
    "Spectrum",
    "correlation",
    "cross_spectrum",
    "histogram",
    "moments",
    "power_spectrum",
]
