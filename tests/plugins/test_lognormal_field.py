"""Statistics of the maps against their input, and exact identities of the lensing relation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from sbikit.seeds import draw_seeds, normals
from sbikit_lognormal.emulator import Emulator, find_table
from sbikit_lognormal.field import LogNormalField, Pixels, hartley, power_matrix, rfft2_of_hartley
from sbikit_lognormal.lensing import KaiserSquires, shape_noise
from sbikit_lognormal.spectra import ELL, Setting

THETA = torch.tensor([0.3, 0.8, -1.0], dtype=torch.float64)
PIXELS = Pixels(32, math.radians(10.0))


def fiducial() -> tuple[Tensor, Tensor]:
    """C(ell) and lambda."""
    spectra, shifts = Emulator(find_table(Setting()))(THETA)
    return spectra[0, 0], shifts[0]


def maps(count: int) -> Tensor:
    """Maps of the fiducial cosmology, (count, N, N), float64."""
    spectrum, shift = fiducial()
    field = LogNormalField(PIXELS, ELL, torch.float64)
    power, variance = field.gaussian_power(spectrum, shift)
    white = normals(draw_seeds(5, "maps", 0, count), (PIXELS.size,) * 2).double()
    return field.convergence(torch.fft.rfft2(white), power, variance, shift)


def binned(power: Tensor, edges: Tensor) -> Tensor:
    """Mean power (..., bins) of power (..., N, N) over modes whose |k| lies between edges, k in cells."""
    k = torch.fft.fftfreq(PIXELS.size, 1 / PIXELS.size, dtype=torch.float64)
    index = torch.bucketize(torch.hypot(k[:, None], k[None, :]).flatten(), edges) - 1
    return torch.stack([power.flatten(-2)[..., index == b].mean(-1) for b in range(len(edges) - 1)], -1)


def test_power_of_maps_is_the_input_within_its_error() -> None:
    spectrum, _ = fiducial()
    matrix = torch.from_numpy(power_matrix(PIXELS, ELL))
    expected_map = (matrix @ spectrum)[torch.from_numpy(PIXELS.lag_index)]
    edges = torch.tensor([0.5, 1.5, 2.5, 4.5, 7.5, 11.5, 16.5], dtype=torch.float64)
    measured = torch.fft.fft2(maps(400)).abs().square() * PIXELS.extent**2 / PIXELS.size**4
    ratio = binned(measured, edges) / binned(expected_map, edges)
    deviation = (ratio.mean(0) - 1) / (ratio.std(0) / math.sqrt(400))
    assert float(deviation.abs().max()) < 4.0
    # A field 5 % too strong would be seen.
    assert float((0.05 / (ratio.std(0) / math.sqrt(400))).max()) > 6.0


def test_skewness_is_that_of_a_lognormal_field() -> None:
    spectrum, shift = fiducial()
    variance = LogNormalField(PIXELS, ELL, torch.float64).gaussian_power(spectrum, shift)[1]
    excess = torch.expm1(variance)
    expected = float(shift**3 * excess**2 * (excess + 3))
    third = maps(400).pow(3).mean((-2, -1))
    error = float(third.std()) / math.sqrt(400)
    assert abs(float(third.mean()) - expected) < 4 * error
    assert expected > 10 * error


def test_field_stays_above_its_floor_and_has_zero_mean() -> None:
    some = maps(400)
    assert float(some.min()) > -float(fiducial()[1])
    means = some.mean((-2, -1))
    assert abs(float(means.mean())) < 4 * float(means.std()) / 20


def test_power_matrix_is_the_sum_over_aliases() -> None:
    pixels = Pixels(8, math.radians(5.0))
    slope = -1.3
    rows = power_matrix(pixels, ELL) @ ELL**slope
    fundamental = 2 * math.pi / pixels.extent
    for (i, j), value in zip(zip(*pixels.lags, strict=True), rows, strict=True):
        if i == j == 0:
            continue
        expected = 0.0
        for n in range(-2, 3):
            for m in range(-2, 3):
                ky, kx = i + 8 * n, j + 8 * m
                window = (np.sinc(ky / 8) * np.sinc(kx / 8)) ** 2
                expected += window * (fundamental * math.hypot(ky, kx)) ** slope
        assert value == pytest.approx(expected, rel=1e-5)


def test_mean_power_in_the_central_cell() -> None:
    pixels = Pixels(8, math.radians(5.0))
    radius = 2 * math.sqrt(math.pi) / pixels.extent
    analytic = 2 / 1.5 * radius**-0.5  # mean of ell^-1/2 over a disc
    # Below ell = 2 the spectrum is constant; that part is less than (2 / radius)^1.5 = 1 %.
    assert power_matrix(pixels, ELL)[0] @ ELL**-0.5 == pytest.approx(analytic, rel=0.003)


@pytest.mark.parametrize("size", [8, 32, 256])
def test_gaussian_power_is_positive_over_the_whole_box(size: int) -> None:
    corners = torch.cartesian_prod(
        torch.tensor([0.15, 0.5]), torch.tensor([0.5, 1.1]), torch.tensor([-2.0, -0.35])
    ).double()
    spectra, shifts = Emulator(find_table(Setting()))(corners)
    field = LogNormalField(Pixels(size, math.radians(10.0)), ELL, torch.float64)
    power, _ = field.gaussian_power(spectra[:, 0, 0], shifts[:, 0])
    assert float((power.amin((-2, -1)) / power.mean((-2, -1))).min()) > 0.01


def test_hartley_is_its_own_inverse_and_skips_the_transform() -> None:
    z = normals(draw_seeds(0, "hartley", 0, 3), (16, 16)).double()
    w = hartley(z)
    torch.testing.assert_close(hartley(w), z, rtol=0, atol=1e-13)
    torch.testing.assert_close(w.square().sum(), z.square().sum(), rtol=1e-13, atol=0)
    torch.testing.assert_close(rfft2_of_hartley(w), torch.fft.rfft2(z), rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [8, 32])
def test_kaiser_squires_round_trip_is_exact_and_without_b_mode(size: int) -> None:
    lensing = KaiserSquires(size, torch.float64)
    kappa = normals(draw_seeds(1, "ks", 0, 4), (size, size)).double()
    kappa -= kappa.mean((-2, -1), keepdim=True)
    shear = lensing.shear(kappa)
    torch.testing.assert_close(lensing.convergence(shear), kappa, rtol=0, atol=1e-13)
    assert float(lensing.b_mode(shear).abs().max()) < 1e-13
    # The alarm rings: shear turned by 45 degrees is all B mode.
    turned = torch.stack([-shear[:, 1], shear[:, 0]], 1)
    torch.testing.assert_close(lensing.b_mode(turned), kappa, rtol=0, atol=1e-13)


def test_shear_of_a_plane_wave() -> None:
    # A wave along x is sheared along x, gamma_1 = kappa; one along y has gamma_1 = -kappa.
    x = torch.cos(2 * math.pi * torch.arange(16, dtype=torch.float64) / 16).expand(16, 16)
    lensing = KaiserSquires(16, torch.float64)
    for kappa, sign in ((x, 1.0), (x.T, -1.0)):
        expected = torch.stack([sign * kappa, torch.zeros(16, 16, dtype=torch.float64)])
        torch.testing.assert_close(lensing.shear(kappa), expected, rtol=0, atol=1e-13)


def test_shape_noise_of_the_reference_survey() -> None:
    # 0.26 / sqrt(27) on a pixel of one square arcminute; ten times less on a hundred of them.
    assert shape_noise(0.26, 27.0, 60, 1.0) == pytest.approx(0.050037, rel=1e-4)
    assert shape_noise(0.26, 27.0, 60, 10.0) == pytest.approx(0.0050037, rel=1e-4)


def test_gaussian_spectrum_is_the_one_that_glass_solves_for() -> None:
    """GLASS works on the sphere, with Legendre series; on a patch the two agree where power is left.

    The spectrum is smoothed, so that neither the pixels of the one nor the band limit of the other
    matter. The Gaussian spectrum differs from C / lambda^2 by 4 to 10 %.
    """
    glass = pytest.importorskip("glass")
    shift = 0.006
    spectrum = Emulator(find_table(Setting()))(torch.tensor((0.3, 0.8, -1.0), dtype=torch.float64))[0][0, 0]
    spectrum = spectrum * torch.from_numpy(np.exp(-((ELL * math.radians(0.6)) ** 2)))
    pixels = Pixels(128, math.radians(40.0))
    power = LogNormalField(pixels, ELL, torch.float64).gaussian_power(
        spectrum, torch.tensor(shift, dtype=torch.float64)
    )[0]
    modes = (torch.from_numpy(power_matrix(pixels, ELL)) @ spectrum)[torch.from_numpy(pixels.lag_index)]
    ours = (power[0, :65] * (pixels.extent / pixels.size) ** 2 / modes[0, :65]).numpy() * shift**2

    ell = np.arange(1000)
    c_ell = np.exp(np.interp(np.log(np.maximum(ell, 2)), np.log(ELL), np.log(spectrum.numpy() + 1e-300)))
    law = glass.grf.Lognormal(shift)
    with np.errstate(divide="ignore"):  # GLASS divides by its own underflow
        theirs = np.asarray(glass.grf.solve(c_ell, law, law, pad=2000)[0]) / c_ell * shift**2
    multipoles = np.arange(65) * 2 * math.pi / pixels.extent
    kept = (multipoles > 20) & (multipoles < 95)  # the smoothing leaves over a third of the power
    np.testing.assert_allclose(ours[kept], np.interp(multipoles[kept], ell, theirs), rtol=0.004)
    assert (ours[kept] < 0.97).all()
