"""How two sets of maps of one channel differ, for one observation, and what each map is summarised by.

Power. Modes are those of the discrete Fourier transform, |k| in radians a unit of extent. Three bands, low,
mid and high, divide |k| between the smallest wave number and the smallest Nyquist wave number into equal
parts of log |k|; modes beyond (the corners) belong to the last. For the curve there are rings of equal
width up to that Nyquist wave number. Power is the mean of |F|^2 over the modes of a band; only ratios are
used.

Summaries of a map: the logarithm of its variance over the pixels, the logarithm of its power in every band,
its minimum, its maximum, and its peaks: pixels above all neighbours (8 in two dimensions) and above a
threshold that is one for all maps of the observation, mean + 1 sd of the exact draws' pixels. The grid is
taken to be periodic.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from sbikit import Field
from sbikit_calibration.agreement_figures import Floats, Trio
from sbikit_calibration.agreement_parameters import TINY

Maps: TypeAlias = NDArray[np.floating]

BANDS = ("low", "mid", "high")
LEVELS = (0.68, 0.95)
_MOST_RINGS = 16
_TAILS = (0.001, 0.999)


class Modes:
    """The rings and bands of one field's grid.

    Attributes:
        k: mean |k| of each ring, (K,).
        bands: names of the bands that hold a mode.
    """

    def __init__(self, field: Field) -> None:
        grid = field.grid
        steps = [size / n for size, n in zip(field.extent, grid, strict=True)]
        axes = [2 * np.pi * np.fft.fftfreq(n, step) for n, step in zip(grid[:-1], steps[:-1], strict=True)]
        axes.append(2 * np.pi * np.fft.rfftfreq(grid[-1], steps[-1]))
        size = np.sqrt(sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij", sparse=True))).ravel()
        weight = np.full((*grid[:-1], grid[-1] // 2 + 1), 2.0)  # a mode of the half space and its conjugate
        weight[..., 0] = 1.0
        if grid[-1] % 2 == 0:
            weight[..., -1] = 1.0
        rings, bands = self._members(size, steps, grid)
        self.bands = tuple(BANDS[i] for i in np.unique(bands[bands >= 0]))
        self._axes = tuple(range(1, len(grid) + 1))
        self._rings, self._bands = (self._means(label, weight.ravel()) for label in (rings, bands))
        self.k = size @ self._rings

    @staticmethod
    def _members(
        size: Floats, steps: list[float], grid: tuple[int, ...]
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Ring and band of every mode, -1 for none."""
        waves = size[size > 0]
        if not len(waves):
            return (np.full(len(size), -1),) * 2
        smallest = float(waves.min())
        nyquist = min(np.pi / step for step, n in zip(steps, grid, strict=True) if n > 1)
        edges = smallest * (nyquist / smallest) ** np.array([1 / 3, 2 / 3])
        bands = np.where(size > 0, np.searchsorted(edges * (1 - 1e-6), size, side="right"), -1)
        count = min(_MOST_RINGS, max(1, round(nyquist / smallest)))
        borders = np.linspace(0.5 * smallest, nyquist + 0.5 * smallest, count + 1)
        rings = np.searchsorted(borders, size, side="right") - 1
        return np.where(rings < count, rings, -1), bands

    @staticmethod
    def _means(label: NDArray[np.intp], weight: Floats) -> Floats:
        """Matrix (modes, bins): its product with the power of every mode is the mean of every filled bin."""
        filled = np.unique(label[label >= 0])
        inside = (label[:, None] == filled) * weight[:, None]
        return np.asarray(inside / inside.sum(0))

    def power(self, maps: Maps) -> tuple[Floats, Floats]:
        """Power of every map (n, *grid) in the rings (n, K) and in the bands (n, len(bands))."""
        transform = scipy.fft.rfftn(maps, axes=self._axes).reshape(len(maps), -1)
        power = transform.real.astype(np.float64) ** 2 + transform.imag.astype(np.float64) ** 2
        return power @ self._rings, power @ self._bands


def summary_names(modes: Modes) -> tuple[str, ...]:
    """The S summaries of a map, in the order of `Described.summaries`."""
    return ("log_variance", *(f"power_{band}" for band in modes.bands), "minimum", "maximum", "peaks")


@dataclass(frozen=True)
class Described:
    """What is kept of one set of maps.

    Args:
        maps: (n, P).
        mean: posterior mean map, (P,).
        variance: posterior variance, mean over the pixels.
        rings: mean power in the rings, (K,).
        bands: mean power in the bands.
        tails: 0.1 and 99.9 % quantiles over pixels and draws, (2,).
        intervals: central intervals of each pixel: low and high for each of `LEVELS`, (levels, 2, P).
        summaries: (n, S).
    """

    maps: Maps
    mean: Floats
    variance: float
    rings: Floats
    bands: Floats
    tails: Floats
    intervals: Maps
    summaries: Floats


@dataclass(frozen=True)
class _Pixels:
    """Mean and standard deviation over pixels and draws of the exact maps."""

    mean: float
    sd: float


def describe(trio: Trio[Maps], modes: Modes) -> tuple[Trio[Described], float]:
    """Each set of maps (n, *grid) described, and the one-point standard deviation of the exact ones."""
    pixels = _pixels(trio)
    return trio.map(lambda maps: _described(maps, modes, pixels.mean + pixels.sd)), pixels.sd or 1.0


def _pixels(trio: Trio[Maps]) -> _Pixels:
    means = [float(maps.mean(dtype=np.float64)) for maps in (trio.first, trio.second)]
    variances = [float(maps.var(dtype=np.float64)) for maps in (trio.first, trio.second)]
    return _Pixels(float(np.mean(means)), float(np.sqrt(np.mean(variances) + np.var(means))))


def _described(maps: Maps, modes: Modes, threshold: float) -> Described:
    flat = maps.reshape(len(maps), -1)
    rings, bands = modes.power(maps)
    return Described(
        maps=flat,
        mean=flat.mean(0, dtype=np.float64),
        variance=float(flat.var(0, ddof=1, dtype=np.float64).mean()),
        rings=rings.mean(0),
        bands=bands.mean(0),
        tails=_tails(flat),
        intervals=_intervals(flat),
        summaries=_summaries(maps, flat, bands, threshold),
    )


def _tails(flat: Maps) -> Floats:
    ordered = np.sort(flat, axis=None)
    at = np.array(_TAILS) * (len(ordered) - 1)
    return np.interp(at, np.arange(len(ordered)), ordered)


def _intervals(flat: Maps) -> Maps:
    """Central intervals between the order statistics at p (n + 1): they hold the share p for every n."""
    ordered = np.sort(np.ascontiguousarray(flat.T), axis=1)
    n = ordered.shape[1]
    levels = np.array(LEVELS)
    wanted = np.stack([0.5 * (1.0 - levels), 0.5 * (1.0 + levels)], 1)
    place = np.clip(wanted * (n + 1) - 1.0, 0.0, n - 1.0)
    below = np.minimum(np.floor(place).astype(int), n - 2)
    part = (place - below)[..., None].astype(ordered.dtype)
    return np.asarray((1 - part) * ordered.T[below] + part * ordered.T[below + 1])


def _summaries(maps: Maps, flat: Maps, bands: Floats, threshold: float) -> Floats:
    variance = flat.var(1, dtype=np.float64)
    columns = [
        np.log(np.maximum(variance, TINY)),
        *np.log(np.maximum(bands.T, TINY)),
        flat.min(1),
        flat.max(1),
        peaks(maps, threshold),
    ]
    return np.stack(columns, 1).astype(np.float64)


def peaks(maps: Maps, threshold: float) -> Floats:
    """Pixels above every neighbour and above the threshold, (n,), for periodic maps (n, *grid)."""
    highest = np.full_like(maps, -np.inf)
    axes = tuple(axis for axis in range(1, maps.ndim) if maps.shape[axis] > 1)
    for shift in itertools.product((-1, 0, 1), repeat=len(axes)):
        if any(shift):
            np.maximum(highest, np.roll(maps, shift, axes), out=highest)
    return ((maps > highest) & (maps > threshold)).reshape(len(maps), -1).sum(1).astype(np.float64)


def map_numbers(trio: Trio[Described], sd: float, modes: Modes) -> dict[str, Floats]:
    """Numbers of one channel and their floors, each (2,).

    `mean_map_error` is a square, ratios are logarithms. `sd` is the unit of the tails.
    """
    variance = max(0.5 * (trio.first.variance + trio.second.variance), TINY)
    found = {
        "field_correlation": trio.compare(lambda a, b: _correlation(a.mean, b.mean)),
        "mean_map_error": trio.compare(lambda a, b: np.asarray(np.mean((a.mean - b.mean) ** 2) / variance)),
        "pixel_variance_ratio": trio.compare(
            lambda a, b: np.log(np.maximum(a.variance, TINY) / np.maximum(b.variance, TINY))
        ),
    }
    bands = trio.compare(lambda a, b: np.log(np.maximum(a.bands, TINY) / np.maximum(b.bands, TINY)))
    found.update({f"band_power_ratio_{name}": bands[:, i] for i, name in enumerate(modes.bands)})
    inside = trio.compare(lambda a, b: coverage(a.intervals, b.maps))
    found.update({f"coverage_{100 * level:.0f}": inside[:, i] for i, level in enumerate(LEVELS)})
    tails = trio.compare(lambda a, b: (a.tails - b.tails) / sd)
    return {**found, "tail_low": tails[:, 0], "tail_high": tails[:, 1]}


def ring_numbers(trio: Trio[Described]) -> Floats:
    """Log ratios of the power in the rings and their floors, (2, K)."""
    return trio.compare(lambda a, b: np.log(np.maximum(a.rings, TINY) / np.maximum(b.rings, TINY)))


def coverage(intervals: Maps, maps: Maps) -> Floats:
    """The share of pixels of `maps` (n, P) inside `intervals` (levels, 2, P), (levels,)."""
    return np.array([np.mean((maps >= low) & (maps <= high)) for low, high in intervals])


def _correlation(first: Floats, second: Floats) -> Floats:
    """Pearson's correlation over the pixels, shape (); 0 where a map is constant."""
    a, b = first - first.mean(), second - second.mean()
    norm = np.sqrt(np.mean(a**2) * np.mean(b**2))
    return np.asarray(np.mean(a * b) / norm if norm > 0 else 0.0)
