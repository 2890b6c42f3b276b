"""Statistics at several scales: the right values from scipy, and what must not change them."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from sbikit.fields import Scales, scales

GRIDS = [(32, 32), (48,), (16, 20, 18)]
WIDTHS = (0.0, 0.7, 1.4, 2.8, 5.6)  # pixels


def skewed(*shape: int) -> torch.Tensor:
    source = torch.Generator().manual_seed(3)
    return torch.randn(shape, generator=source).exp()


@pytest.mark.parametrize("grid", GRIDS)
def test_statistics_of_a_periodic_field_are_those_of_scipy(grid: tuple[int, ...]) -> None:
    field = skewed(2, 1, *grid)
    found = Scales(grid, periodic=True)(field).double().numpy()
    widths = [w for w in WIDTHS if w <= 0.2 * min(grid)]
    for row, values in zip(found, field[:, 0].double().numpy(), strict=True):
        modes = np.fft.fftn(values)
        smooth = [np.fft.ifftn(ndimage.fourier_gaussian(modes, w)).real for w in widths]
        maps = [a - b for a, b in itertools.pairwise(smooth)] + smooth
        m = len(maps)
        flat = np.array([one.ravel() for one in maps])
        z = stats.zscore(flat, axis=1)
        expected = [
            np.log(flat.var(1)),
            stats.skew(flat, axis=1),
            np.log(stats.kurtosis(flat, axis=1, fisher=False)),
            np.abs(z).mean(1),
            np.log((np.where(z > 0, z, 0) ** 3).mean(1)),
            np.log((np.where(z < 0, -z, 0) ** 3).mean(1)),
        ]
        assert row[: 6 * m] == pytest.approx(np.concatenate(expected), rel=2e-4, abs=2e-4)
        above = [np.where(z > c, z - c, 0).mean(1) for c in (1, 2, 3)]
        below = [np.where(z < -c, -z - c, 0).mean(1) for c in (1, 2)]
        assert row[6 * m : 11 * m] == pytest.approx(np.concatenate(above + below), rel=2e-4, abs=2e-4)
        pairs = []
        for a in range(len(widths) - 1):
            for b in range(a + 1, len(widths) - 1):
                x, y = z[a], z[b]
                pairs += [
                    (x * x * y).mean(),
                    (x * y * y).mean(),
                    np.abs(x * y).mean(),
                    (np.abs(x) * y).mean(),
                ]
        assert row[11 * m :] == pytest.approx(pairs, rel=5e-4, abs=5e-4)


def test_what_channels_have_in_common_is_that_of_numpy() -> None:
    """E zi zj, E zi^2 zj and E zi zj^2 of every map, pair by pair, after what is of each channel alone."""
    field = skewed(2, 3, 32, 32)
    field[:, 2] += 0.5 * field[:, 0]
    scales = Scales((32, 32), periodic=True)
    found = scales(field)[:, 3 * scales.count(1) :].double().numpy()
    for row, values in zip(found, field.double().numpy(), strict=True):
        modes = np.fft.fft2(values)
        smooth = [np.fft.ifft2([ndimage.fourier_gaussian(one, w) for one in modes]).real for w in WIDTHS]
        maps = [a - b for a, b in itertools.pairwise(smooth)] + smooth
        z = [stats.zscore(one.reshape(3, -1), axis=1) for one in maps]
        pairs = list(itertools.combinations(range(3), 2))
        expected = [
            (one[i] ** p * one[j] ** q).mean()
            for p, q in ((1, 1), (2, 1), (1, 2))
            for one in z
            for i, j in pairs
        ]
        assert row == pytest.approx(expected, rel=5e-4, abs=5e-4)


def test_what_lies_outside_a_field_that_is_not_periodic_counts_for_nothing() -> None:
    """Of a field smoothed by a normalised kernel a constant stays a constant, at the border too."""
    scales = Scales((24, 24), periodic=False)
    ramp = torch.arange(24.0).expand(1, 1, 24, 24).contiguous()
    found = scales._smooth(ramp) / scales.inside
    weight = ndimage.gaussian_filter(np.ones((24, 24)), 2.8, mode="constant", truncate=8)
    expected = ndimage.gaussian_filter(ramp[0, 0].numpy(), 2.8, mode="constant", truncate=8) / weight
    assert found[0, 0, 3].numpy() == pytest.approx(expected, rel=2e-3)
    constant = torch.full((1, 1, 24, 24), 5.0)
    assert torch.allclose((scales._smooth(constant) / scales.inside), constant[:, :, None], atol=1e-4)


def test_statistics_of_a_periodic_field_do_not_depend_on_the_place() -> None:
    field = skewed(3, 2, 32, 32)
    scales = Scales((32, 32), periodic=True)
    assert torch.allclose(scales(field), scales(field.roll((5, 9), (2, 3))), atol=1e-3)


@pytest.mark.parametrize("grid", [(2, 3), (4, 4), (1,), (7,)])
@pytest.mark.parametrize("periodic", [True, False])
def test_small_and_flat_fields_have_finite_statistics(grid: tuple[int, ...], periodic: bool) -> None:
    scales = Scales(grid, periodic=periodic)
    for field in (torch.zeros(2, 3, *grid), torch.full((2, 3, *grid), 7.0), skewed(2, 3, *grid)):
        found = scales(field)
        assert found.shape == (2, scales.count(3))
        assert bool(found.isfinite().all())


@pytest.mark.parametrize("at_once", [1, 3 * 9 * 2 * 1024, 2**30])
def test_statistics_do_not_depend_on_how_many_fields_are_looked_at_together(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields, made = skewed(7, 2, 32, 32), Scales((32, 32), periodic=True)
    expected = torch.cat([made(field[None]) for field in fields])
    monkeypatch.setattr(scales, "_AT_ONCE", at_once)
    torch.testing.assert_close(made(fields), expected, rtol=0, atol=1e-5)


LARGE_FIELDS = """
import resource
import torch
from sbikit.fields import Scales, scales

scales, fields = Scales((128, 128), periodic=False), torch.randn(128, 5, 128, 128)
scales(fields[:1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
scales(fields)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_many_large_fields_take_little_memory() -> None:
    """Megabytes; all 640 maps together took 3,200."""
    found = subprocess.run([sys.executable, "-c", LARGE_FIELDS], capture_output=True, text=True, check=True)
    assert int(found.stdout) < 300
