"""Power spectra of real fields on a regular, periodic grid of one, two or three axes.

A field f with N = prod(n_i) pixels on a box of volume V = prod(L_i) has the discrete
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
import torch
from numpy.typing import ArrayLike, NDArray

from sbikit.fields.rings import Rings
from sbikit.problem.errors import SpecError

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


def power_spectrum(field: ArrayLike, extent: tuple[float, ...], *, bins: int | None = None) -> Spectrum:
    """The isotropic power spectrum of each field.

    Args:
        field: (*batch, *grid), real; the grid is the last `len(extent)` axes.
        extent: size of the box along each grid axis.
        bins: bins of equal width in |k| up to the smallest Nyquist wave number; as many as the smallest
            |k| fits below it where left out.

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
    rings = Rings.linear(grid, extent, bins)
    batch = np.broadcast_shapes(f.shape[: -len(grid)], g.shape[: -len(grid)])
    f = np.broadcast_to(f, (*batch, *grid)).reshape(-1, *grid)
    g = f if second is first else np.broadcast_to(g, (*batch, *grid)).reshape(-1, *grid)
    sums = np.array(
        [_ring_sums(one, None if g is f else other, rings) for one, other in zip(f, g, strict=True)]
    )
    modes = rings.count.double().numpy()
    power = math.prod(extent) / math.prod(grid) * sums.reshape(*batch, -1) / modes
    return Spectrum(rings.k.numpy(), power, modes)


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


def _ring_sums(f: NDArray[np.generic], g: NDArray[np.generic] | None, rings: Rings) -> Floats:
    """Sums of Re(F conj(G)) of two maps over the modes of each bin, (K,); of |F|^2 without the second."""
    a = rings.transform(_copied(f))
    b = a if g is None else rings.transform(_copied(g))
    return np.asarray(rings.power(a, b))


def _copied(field: NDArray[np.generic]) -> torch.Tensor:
    """A copy in double precision: torch refuses arrays that are read-only or of another byte order."""
    return torch.from_numpy(np.array(field, np.float64))
