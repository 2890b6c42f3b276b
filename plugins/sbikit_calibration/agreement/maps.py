"""How two sets of maps of one channel differ, for one observation, and what each map is summarised by.

Summaries of a map: the logarithm of its variance over the pixels, the logarithm of its power in every band
(`power`), its minimum, its maximum, and its peaks: pixels above all neighbours (8 in two dimensions) and
above a threshold that is one for all maps of the observation, mean + 1 sd of the exact draws' pixels. Across
the edge a pixel has neighbours only where the grid closes on itself.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from sbikit_calibration.agreement.parameters import TINY
from sbikit_calibration.agreement.power import PowerBins
from sbikit_calibration.agreement.trio import Floats, Maps, Trio

LEVELS = (0.68, 0.95)  # of the intervals of 1 and 2 standard deviations of a normal posterior
_TAILS = (0.001, 0.999)  # 3.1 sd of a normal map: one pixel of 32^2 lies beyond either


def summary_names(bins: PowerBins) -> tuple[str, ...]:
    """The S summaries of a map, in the order of `Described.summaries`."""
    return ("log_variance", *(f"power_{band}" for band in bins.bands), "minimum", "maximum", "peaks")


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


def describe(trio: Trio[Maps], bins: PowerBins) -> tuple[Trio[Described], float]:
    """Each set of maps (n, *grid) described, and the one-point standard deviation of the exact ones."""
    pixels = _pixels(trio)
    return trio.map(lambda maps: _described(maps, bins, pixels.mean + pixels.sd)), pixels.sd or 1.0


def _pixels(trio: Trio[Maps]) -> _Pixels:
    means = [float(maps.mean(dtype=np.float64)) for maps in (trio.first, trio.second)]
    variances = [float(maps.var(dtype=np.float64)) for maps in (trio.first, trio.second)]
    return _Pixels(float(np.mean(means)), float(np.sqrt(np.mean(variances) + np.var(means))))


def _described(maps: Maps, bins: PowerBins, threshold: float) -> Described:
    flat = maps.reshape(len(maps), -1)
    rings, bands = bins.power(maps)
    return Described(
        maps=flat,
        mean=flat.mean(0, dtype=np.float64),
        variance=float(flat.var(0, ddof=1, dtype=np.float64).mean()),
        rings=rings.mean(0),
        bands=bands.mean(0),
        tails=_tails(flat),
        intervals=_intervals(flat),
        summaries=_summaries(maps, flat, bands, peaks(maps, threshold, periodic=bins.field.periodic)),
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


def _summaries(maps: Maps, flat: Maps, bands: Floats, found_peaks: Floats) -> Floats:
    variance = flat.var(1, dtype=np.float64)
    columns = [
        np.log(np.maximum(variance, TINY)),
        *np.log(np.maximum(bands.T, TINY)),
        flat.min(1),
        flat.max(1),
        found_peaks,
    ]
    return np.stack(columns, 1).astype(np.float64)


def peaks(maps: Maps, threshold: float | Floats, *, periodic: bool) -> Floats:
    """Pixels above every neighbour and above the threshold, (n,), of maps (n, *grid).

    The threshold is one, or one a map, (n, 1, ...).
    """
    highest = np.full_like(maps, -np.inf)
    sides = [1 if n > 1 else 0 for n in maps.shape[1:]]
    wide = [(0, 0), *((side, side) for side in sides)]
    around = np.pad(maps, wide, "wrap") if periodic else np.pad(maps, wide, constant_values=-np.inf)
    for shift in itertools.product(*(range(1 + 2 * side) for side in sides)):
        if shift != tuple(sides):
            part = tuple(slice(first, first + n) for first, n in zip(shift, maps.shape[1:], strict=True))
            np.maximum(highest, around[(slice(None), *part)], out=highest)
    return ((maps > highest) & (maps > threshold)).reshape(len(maps), -1).sum(1).astype(np.float64)


def map_numbers(trio: Trio[Described], sd: float, bins: PowerBins) -> dict[str, Floats]:
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
    found.update({f"band_power_ratio_{name}": bands[:, i] for i, name in enumerate(bins.bands)})
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
