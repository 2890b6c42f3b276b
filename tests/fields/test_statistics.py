from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from sbikit import SpecError
from sbikit.fields import correlation, cross_spectrum, histogram, moments, power_spectrum

GRIDS = [
    ((64,), (3.0,)),
    ((63,), (3.0,)),
    ((32, 32), (10.0, 10.0)),
    ((24, 31), (4.0, 7.0)),
    ((12, 13, 10), (2.0, 3.0, 1.5)),
]


@pytest.mark.parametrize(("grid", "extent"), GRIDS)
def test_parseval(grid, extent):
    """With one bin wide enough for every mode, the power adds up to the variance."""
    field = np.random.default_rng(1).normal(size=grid) + 3.0
    step = [size / n for size, n in zip(extent, grid, strict=True)]
    everything = _all_modes(field, extent)
    assert everything.sum() / np.prod(extent) == pytest.approx((field**2).mean(), rel=1e-12)
    spectrum = power_spectrum(field, extent)
    k = np.sqrt(
        sum(
            a**2
            for a in np.meshgrid(
                *[2 * np.pi * np.fft.fftfreq(n, d) for n, d in zip(grid, step, strict=True)], indexing="ij"
            )
        )
    )
    fundamental = 2 * np.pi / max(extent)
    nyquist = min(np.pi / d for d in step)
    count = round(nyquist / fundamental)
    inside = (k >= 0.5 * fundamental) & (k < nyquist + 0.5 * fundamental)
    assert len(spectrum.k) <= count
    assert spectrum.modes.sum() == inside.sum()
    assert (spectrum.power * spectrum.modes).sum() == pytest.approx(everything[inside].sum(), rel=1e-10)


def _all_modes(field, extent):
    """V / N^2 |F|^2 of the full transform, the definition written out."""
    return np.prod(extent) / field.size**2 * np.abs(np.fft.fftn(field)) ** 2


@pytest.mark.parametrize(("grid", "extent"), GRIDS)
def test_white_noise_is_flat_at_variance_times_pixel_volume(grid, extent):
    maps = 400
    field = 0.7 * np.random.default_rng(2).normal(size=(maps, *grid))
    spectrum = power_spectrum(field, extent)
    expected = 0.49 * np.prod(extent) / np.prod(grid)
    error = expected * np.sqrt(2 / (spectrum.modes * maps))
    assert np.abs((spectrum.power.mean(0) - expected) / error).max() < 4.5
    scatter = spectrum.power.std(0) / (expected * np.sqrt(2 / spectrum.modes))
    assert scatter == pytest.approx(1.0, abs=0.25)


def test_a_plane_wave_lies_in_its_own_bin():
    n, size, amplitude, m = 32, 10.0, 0.3, 5
    x = np.arange(n) * size / n
    field = amplitude * np.cos(2 * np.pi * m * x / size)[:, None] * np.ones(n)
    spectrum = power_spectrum(field, (size, size))
    peak = int(spectrum.power.argmax())
    assert abs(spectrum.k[peak] - 2 * np.pi * m / size) < np.pi / size
    total = (spectrum.power * spectrum.modes).sum() / size**2
    assert total == pytest.approx(amplitude**2 / 2, rel=1e-12)
    assert np.delete(spectrum.power, peak).max() < 1e-25


def test_a_gaussian_field_returns_the_spectrum_it_was_made_with():
    n, size, maps = 48, 6.0, 300
    k = 2 * np.pi * np.hypot(*np.meshgrid(np.fft.fftfreq(n, size / n), np.fft.fftfreq(n, size / n)))
    true = 1.0 / (1.0 + k**2)
    white = np.fft.fft2(np.random.default_rng(3).normal(size=(maps, n, n)))
    field = np.fft.ifft2(white * np.sqrt(true * n**2 / size**2)).real
    spectrum = power_spectrum(field, (size, size), bins=8)
    fundamental = 2 * np.pi / size
    edges = np.linspace(0.5 * fundamental, np.pi * n / size + 0.5 * fundamental, 9)
    expected = np.array([true[(k >= a) & (k < b)].mean() for a, b in pairwise(edges)])
    error = spectrum.power.std(0, ddof=1) / np.sqrt(maps)
    assert np.abs((spectrum.power.mean(0) - expected) / error).max() < 4
    assert (error / expected).max() < 0.03


def test_correlation_of_signal_with_signal_plus_noise():
    rng = np.random.default_rng(4)
    signal = rng.normal(size=(300, 24, 24))
    noise = 0.5 * rng.normal(size=signal.shape)
    r = correlation(signal, signal + noise, (1.0, 1.0), bins=4)
    assert r.power.mean(0) == pytest.approx(1 / np.sqrt(1.25), abs=0.01)
    assert correlation(signal, -signal, (1.0, 1.0)).power == pytest.approx(-1.0)
    assert correlation(signal, 0 * signal, (1.0, 1.0)).power == pytest.approx(0.0)
    cross = cross_spectrum(signal, noise, (1.0, 1.0), bins=4)
    assert np.abs(cross.power.mean(0)).max() < 4 * 0.5 / 24**2 / np.sqrt(cross.modes.min() * 300)


def test_batches_are_independent_of_each_other():
    field = np.random.default_rng(5).normal(size=(2, 3, 16, 16)).astype(np.float32)
    whole = power_spectrum(field, (1.0, 1.0))
    assert whole.power.shape == (2, 3, len(whole.k))
    assert whole.power[1, 2] == pytest.approx(power_spectrum(field[1, 2], (1.0, 1.0)).power)
    against_one = cross_spectrum(field, field[0, 0], (1.0, 1.0))
    assert against_one.power[0, 0] == pytest.approx(whole.power[0, 0])


@pytest.mark.parametrize("extent", [(1.0, 1.0, 1.0, 1.0), (), (1.0, -1.0)])
def test_an_extent_that_does_not_fit_is_refused(extent):
    with pytest.raises(SpecError, match="extent"):
        power_spectrum(np.zeros((4, 4)), extent)


def test_fields_on_different_grids_are_refused():
    with pytest.raises(SpecError, match="differ in grid"):
        cross_spectrum(np.zeros((4, 4)), np.zeros((4, 5)), (1.0, 1.0))


def test_moments_agree_with_scipy():
    field = np.random.default_rng(6).gamma(2.0, size=(3, 20, 20))
    found, flat = moments(field, axes=2), field.reshape(3, -1)
    assert found.mean == pytest.approx(flat.mean(1))
    assert found.sd == pytest.approx(flat.std(1))
    assert found.skewness == pytest.approx(stats.skew(flat, axis=1))
    assert found.kurtosis == pytest.approx(stats.kurtosis(flat, axis=1))
    flat_field = moments(np.ones((4, 4)), axes=2)
    assert (flat_field.sd, flat_field.skewness, flat_field.kurtosis) == (0, 0, 0)


def test_histogram_is_a_density():
    field = np.random.default_rng(7).normal(size=(4, 100, 100))
    edges = np.linspace(-1, 2, 13)
    density = histogram(field, edges, axes=2)
    fraction = np.diff(stats.norm.cdf(edges))
    error = np.sqrt(fraction * (1 - fraction) / field.size) / 0.25
    assert density.shape == (4, 12)
    assert np.abs((density.mean(0) - fraction / 0.25) / error).max() < 4
    inside = ((field >= -1) & (field <= 2)).mean((1, 2))
    assert (density * 0.25).sum(1) == pytest.approx(inside)
