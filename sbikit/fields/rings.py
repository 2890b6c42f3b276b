"""Rings of modes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sbikit.problem.errors import SpecError

Floats = NDArray[np.float64]


def rings(
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
    modes = bincount(label, weight.ravel(), count + 1)[:-1]
    total = bincount(label, (weight * size).ravel(), count + 1)[:-1]
    filled = modes > 0
    if not filled.any():
        raise SpecError("The grid has no mode to take a spectrum of.", where="power spectrum", got=str(grid))
    last = int(filled.sum())
    renumber = np.append(np.where(filled, np.cumsum(filled) - 1, last), last).astype(np.intp)
    return renumber[label], total[filled] / modes[filled], modes[filled], weight.ravel()


def bincount(label: NDArray[np.intp], weight: Floats, count: int) -> Floats:
    return np.asarray(np.bincount(label, weight, count), np.float64)
