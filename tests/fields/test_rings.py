"""Rings against sums over the full transform, mode by mode."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from sbikit import SpecError, generator
from sbikit.fields import Rings, logarithmic_edges, wave_numbers, wave_range

GRIDS = [
    ((16,), (2.0,)),
    ((15,), (2.0,)),
    ((12, 9), (3.0, 5.0)),
    ((9, 12), (1.0, 1.0)),
    ((4, 5, 6), (1.0, 2.0, 1.5)),
]


def full_waves(grid: tuple[int, ...], extent: tuple[float, ...]) -> np.ndarray:
    axes = [2 * np.pi * np.fft.fftfreq(n, size / n) for n, size in zip(grid, extent, strict=True)]
    return np.sqrt(sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij")))


@pytest.mark.parametrize(("grid", "extent"), GRIDS)
def test_rings_between_edges_are_sums_over_the_full_transform(
    grid: tuple[int, ...], extent: tuple[float, ...]
) -> None:
    k = full_waves(grid, extent)
    edges = np.array([0.2, 0.45, 0.46, 0.8]) * k.max()
    rings = Rings.between(grid, extent, edges.tolist())
    field = torch.randn(3, *grid, generator=generator(0), dtype=torch.float64)
    modes = rings.transform(field)
    power = np.abs(np.fft.fftn(field.numpy(), axes=rings.axes)) ** 2 / math.prod(grid)
    members = [(k >= a) & (k < b) for a, b in pairwise(edges)]
    members = [inside for inside in members if inside.any()]
    assert rings.count.tolist() == [inside.sum() for inside in members]
    np.testing.assert_allclose(rings.k, [k[inside].mean() for inside in members])
    expected = np.stack([power[:, inside].sum(1) for inside in members], 1)
    np.testing.assert_allclose(rings.power(modes, modes), expected)
    torch.testing.assert_close(rings.inverse(modes), field)


@pytest.mark.parametrize("grid", [grid for grid, _ in GRIDS])
def test_shells_hold_every_mode_and_the_mean_has_one_of_its_own(grid: tuple[int, ...]) -> None:
    rings = Rings.shells(grid)
    field = torch.randn(grid, generator=generator(1))
    modes = rings.transform(field)
    assert int(rings.count.sum()) == math.prod(grid)
    assert int(rings.index.max()) == len(rings) - 1
    assert float(rings.count[0]) == 1.0
    assert float(rings.power(modes, modes)[0]) == pytest.approx(math.prod(grid) * float(field.mean()) ** 2)
    assert torch.all(rings.k.diff() > 0)


@pytest.mark.parametrize(("grid", "extent"), GRIDS)
def test_wave_numbers_are_those_of_the_grid(grid: tuple[int, ...], extent: tuple[float, ...]) -> None:
    k = full_waves(grid, extent)
    half = wave_numbers(grid, extent).reshape(*grid[:-1], -1)
    np.testing.assert_allclose(half, k[..., : half.shape[-1]])
    smallest, nyquist = wave_range(grid, extent)
    assert smallest == pytest.approx(k[k > 0].min())
    assert nyquist == pytest.approx(min(np.pi * n / size for n, size in zip(grid, extent, strict=True)))


@pytest.mark.parametrize(("grid", "extent"), GRIDS)
def test_logarithmic_bands_are_equal_parts_of_log_k_and_hold_all_but_the_mean(
    grid: tuple[int, ...], extent: tuple[float, ...]
) -> None:
    first, *inner, last = logarithmic_edges(grid, extent, 3)
    smallest, nyquist = wave_range(grid, extent)
    np.testing.assert_allclose([first, *inner], np.geomspace(smallest, nyquist, 4)[:-1], rtol=1e-5)
    assert first < smallest
    assert last == math.inf
    bands = Rings.logarithmic(grid, extent, 3)
    assert int(bands.count.sum()) == math.prod(grid) - 1
    assert len(Rings.logarithmic((1, 1), (1.0, 1.0), 3)) == 0


def test_modes_outside_every_bin_have_no_ring() -> None:
    rings = Rings.between((8, 8), (8.0, 8.0), [1.0, 2.0])
    k = wave_numbers((8, 8), (8.0, 8.0))
    assert torch.equal(rings.index == 0, (k >= 1.0) & (k < 2.0))
    assert torch.all(rings.index[(k < 1.0) | (k >= 2.0)] == len(rings))


def test_no_edges_make_no_rings_and_one_pixel_has_no_spectrum() -> None:
    rings = Rings.between((1,), (1.0,), [])
    modes = rings.transform(torch.ones(3, 1))
    assert len(rings) == 0
    assert rings.power(modes, modes).shape == (3, 0)
    with pytest.raises(SpecError, match="no mode"):
        Rings.linear((1, 1), (1.0, 1.0))
