"""Statistics of the maps against their input, and exact identities of the lensing relation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbikit import draw_seeds, normals
from sbikit_lognormal.field import (
    Gaussian,
    GaussianConvergence,
    LogNormalConvergence,
    ModePower,
    Pixels,
    block_rows,
    correlation_matrix,
    in_blocks,
    power_matrix,
    white_modes,
)
from sbikit_lognormal.survey import KaiserSquires

ELL = np.geomspace(2.0, 8e4, 64)
PIXELS = Pixels(32, math.radians(10.0))
MAPS = 1200
BOTH = pytest.mark.parametrize("law", [LogNormalConvergence, GaussianConvergence])
Law = type[LogNormalConvergence] | type[GaussianConvergence]


def correlated(bins: int, correlation: float = 0.8) -> tuple[Tensor, Tensor]:
    """Smooth spectra (pairs, n_ell) of a deepening survey and shifts (bins,).

    Neighbouring bins have the given correlation coefficient on all scales, others its powers.
    """
    depth = torch.linspace(1.0, 2.0, bins, dtype=torch.float64)
    i, j = torch.tril_indices(bins, bins)
    ell = torch.from_numpy(ELL)
    shape = 1.5e-9 * (ell / 100) ** -1.1 / (1 + ell / 3000)
    amplitude = (depth[i] * depth[j]) ** 1.5 * correlation ** (i - j)
    return amplitude[:, None] * shape, 0.01 * depth


def maps(count: int, bins: int = 2, law: Law = LogNormalConvergence) -> Tensor:
    """Maps (count, bins, N, N), float64."""
    field = law(PIXELS, ELL, bins, torch.float64)
    gaussian = field.gaussian(*correlated(bins))
    white = normals(draw_seeds(5, "maps", 0, count), (bins, PIXELS.size, PIXELS.size)).double()
    return field.convergence(torch.fft.rfft2(white), gaussian)


def rings(power: Tensor, edges: Tensor) -> Tensor:
    """Mean power (..., rings) of power (..., N, N) over modes whose |k| lies between edges, k in cells."""
    k = torch.fft.fftfreq(PIXELS.size, 1 / PIXELS.size, dtype=torch.float64)
    index = torch.bucketize(torch.hypot(k[:, None], k[None, :]).flatten(), edges) - 1
    return torch.stack([power.flatten(-2)[..., index == b].mean(-1) for b in range(len(edges) - 1)], -1)


@BOTH
def test_auto_and_cross_power_of_maps_is_the_input_within_its_error(law: Law) -> None:
    spectra, _ = correlated(2)
    expected = (spectra @ torch.from_numpy(power_matrix(PIXELS, ELL)).T)[
        :, torch.from_numpy(PIXELS.lag_index)
    ]
    edges = torch.tensor([0.5, 1.5, 2.5, 4.5, 7.5, 11.5, 16.5], dtype=torch.float64)
    modes = torch.fft.fft2(maps(MAPS, law=law))
    i, j = torch.tril_indices(2, 2)
    measured = (modes[:, i] * modes[:, j].conj()).real * PIXELS.extent**2 / PIXELS.size**4
    ratio = rings(measured, edges) / rings(expected, edges)
    error = ratio.std(0) / math.sqrt(MAPS)
    assert float(((ratio.mean(0) - 1) / error).abs().max()) < 4.0
    # A field 5 % too strong would be seen, in each auto-spectrum and in the cross-spectrum.
    assert float((0.05 / error).amax(-1).min()) > 6.0


def test_third_moments_are_those_of_lognormal_fields() -> None:
    spectra, shift = correlated(2)
    xi = (spectra @ torch.from_numpy(correlation_matrix(PIXELS, ELL)[0])).tolist()
    low, high = shift.tolist()
    v1, v2 = math.log1p(xi[0] / low**2), math.log1p(xi[2] / high**2)
    covariance = math.log1p(xi[1] / (low * high))
    some = maps(MAPS)
    first, second = some.unbind(1)
    excess = math.expm1(v2)
    for product, expected in (
        (second**3, high**3 * excess**2 * (excess + 3)),
        (
            first**2 * second,
            low**2 * high * (math.exp(v1 + 2 * covariance) - math.exp(v1) - 2 * math.expm1(covariance)),
        ),
    ):
        third = product.mean((-2, -1))
        error = float(third.std()) / math.sqrt(MAPS)
        assert abs(float(third.mean()) - expected) < 4 * error
        assert expected > 10 * error


def test_one_point_moments_of_gaussian_fields() -> None:
    def moments(some: Tensor) -> tuple[Tensor, Tensor]:
        """Skewness and excess kurtosis (maps, bins) about a mean of 0 and the true variance."""
        spectra, _ = correlated(2)
        sigma = (spectra @ torch.from_numpy(correlation_matrix(PIXELS, ELL)[0])).sqrt()[[0, 2]]
        x = some / sigma[:, None, None]
        return x.pow(3).mean((-2, -1)), (x.pow(4) - 6 * x.square() + 3).mean((-2, -1))

    gaussian, lognormal = moments(maps(MAPS, law=GaussianConvergence)), moments(maps(MAPS))
    for ours, theirs in zip(gaussian, lognormal, strict=True):
        error = ours.std(0) / math.sqrt(MAPS)
        assert bool((ours.mean(0).abs() < 4 * error).all())
        # The alarm rings: a log-normal field of the same power is seen at once.
        assert bool((theirs.mean(0) > 20 * error).all())


def test_a_lognormal_field_without_bound_is_the_gaussian_one() -> None:
    spectra, shift = correlated(2)
    white = white_modes(normals(draw_seeds(6, "limit", 0, 3), (2, 32, 32)).double())
    gaussian = GaussianConvergence(PIXELS, ELL, 2, torch.float64)
    expected = gaussian.convergence(white, gaussian.gaussian(spectra, shift[:0]))
    lognormal = LogNormalConvergence(PIXELS, ELL, 2, torch.float64)
    for depth in (1e1, 1e3):
        found = lognormal.convergence(white, lognormal.gaussian(spectra, torch.full_like(shift, depth)))
        # What is left is of second order in kappa.
        square = float(expected.abs().max()) ** 2 / depth
        assert 0.1 * square < float((found - expected).abs().max()) < square


@pytest.mark.parametrize("bins", [1, 2, 5])
def test_root_squared_of_gaussian_fields_is_the_power(bins: int) -> None:
    spectra, shift = correlated(bins)
    gaussian = GaussianConvergence(PIXELS, ELL, bins, torch.float64).gaussian(spectra, shift[:0])
    i, j = torch.tril_indices(bins, bins)
    power = spectra @ torch.from_numpy(power_matrix(PIXELS, ELL)).T
    expected = power[:, torch.from_numpy(PIXELS.lag_index[:17, :17])] * (PIXELS.size / PIXELS.extent) ** 2
    upper = torch.zeros(bins, bins, 17, 17, dtype=torch.float64)
    upper[j, i] = gaussian.root
    square = torch.einsum("ikyx,jkyx->ijyx", upper, upper)
    torch.testing.assert_close(square[i, j], expected, rtol=1e-11, atol=0)
    torch.testing.assert_close(ModePower(PIXELS, ELL, torch.float64)(spectra), expected, rtol=1e-13, atol=0)
    xi = spectra @ torch.from_numpy(correlation_matrix(PIXELS, ELL)[0])
    torch.testing.assert_close(gaussian.variance, xi[i == j], rtol=1e-12, atol=0)
    assert gaussian.shift.shape == (0,)
    full = expected.new_zeros(17, 17, bins, bins)
    full[..., i, j] = full[..., j, i] = expected.movedim(0, -1)
    assert float(gaussian.lowest) > 0
    assert float(torch.linalg.eigvalsh(full).min()) > 0


def test_an_impossible_cross_correlation_of_gaussian_fields_is_reported() -> None:
    field = GaussianConvergence(PIXELS, ELL, 2, torch.float64)
    spectra = torch.stack([correlated(2, correlation)[0] for correlation in (0.99, 1.01)])
    assert (field.gaussian(spectra, spectra[:, 0, :0]).lowest > 0).tolist() == [True, False]


def test_field_stays_above_its_floor_and_has_zero_mean() -> None:
    some = maps(MAPS)
    assert (some.amin((0, 2, 3)) > -correlated(2)[1]).all()
    means = some.mean((-2, -1))
    assert (means.mean(0).abs() < 4 * means.std(0) / math.sqrt(MAPS)).all()


@pytest.mark.parametrize("bins", [1, 2, 5])
def test_root_squared_is_the_transform_of_the_correlation_function(bins: int) -> None:
    spectra, shift = correlated(bins)
    gaussian = LogNormalConvergence(PIXELS, ELL, bins, torch.float64).gaussian(spectra, shift)
    i, j = torch.tril_indices(bins, bins)
    xi = (spectra @ torch.from_numpy(correlation_matrix(PIXELS, ELL)).T)[
        :, torch.from_numpy(PIXELS.lag_index)
    ]
    gaussian_xi = torch.log1p(xi / (shift[i] * shift[j])[:, None, None])
    expected = torch.fft.rfft2(gaussian_xi).real[:, :17]
    upper = torch.zeros(bins, bins, 17, 17, dtype=torch.float64)
    upper[j, i] = gaussian.root
    square = torch.einsum("ikyx,jkyx->ijyx", upper, upper)
    torch.testing.assert_close(square[i, j], expected, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(gaussian.variance, gaussian_xi[i == j, 0, 0], rtol=1e-12, atol=0)
    full = torch.zeros(17, 17, bins, bins, dtype=torch.float64)
    full[..., i, j] = full[..., j, i] = expected.movedim(0, -1)
    # A pivot is the determinant of a trailing block over that of the next.
    minors = [torch.linalg.det(full[..., b:, b:]) for b in range(bins)] + [torch.ones(17, 17).double()]
    pivots = [float((minors[b] / minors[b + 1]).min() / gaussian.variance[b]) for b in range(bins)]
    assert float(gaussian.lowest) == pytest.approx(min(pivots), rel=1e-9)


@BOTH
def test_single_precision_is_near_double(law: Law) -> None:
    spectra, shift = correlated(5)
    white = normals(draw_seeds(2, "precision", 0, 1), (5, 32, 32))[0]
    kappa, lowest = [], []
    for dtype in (torch.float32, torch.float64):
        field = law(PIXELS, ELL, 5, dtype)
        gaussian = field.gaussian(spectra, shift)
        kappa.append(field.convergence(white_modes(white.to(dtype)), gaussian).double())
        lowest.append(float(gaussian.lowest))
    assert float((kappa[0] - kappa[1]).abs().max() / kappa[1].std()) < 1e-4
    assert lowest[0] == pytest.approx(lowest[1], rel=1e-3)


def lowest_pivot(spectra: Tensor, shift: Tensor) -> float:
    return float(LogNormalConvergence(PIXELS, ELL, len(shift), torch.float64).gaussian(spectra, shift).lowest)


def test_a_negative_mode_of_one_bin_is_reported() -> None:
    spectra, shift = correlated(1)
    assert lowest_pivot(spectra, shift) > 0
    ring = torch.exp(-0.5 * (torch.log(torch.from_numpy(ELL) / 200) / 0.15) ** 2)
    # A ring of power has no counterpart at its harmonics, where log(1 + xi) is negative.
    assert -1 < lowest_pivot(1e-9 * ring[None], shift) < 0
    # So strong that 1 + xi / lambda^2 < 0: no correlation function at all.
    assert lowest_pivot(1e-6 * ring[None], shift) == -math.inf


def test_an_impossible_cross_correlation_alone_is_reported() -> None:
    assert lowest_pivot(*correlated(2, correlation=0.95)) > 0
    spectra, shift = correlated(2, correlation=1.1)
    assert lowest_pivot(spectra[[0]], shift[:1]) > 0
    assert lowest_pivot(spectra[[2]], shift[1:]) > 0
    assert -math.inf < lowest_pivot(spectra, shift) < 0
    # Anticorrelated beyond the floor: the cross-correlation function itself does not exist.
    assert lowest_pivot(spectra * torch.tensor([[1.0], [-30.0], [1.0]]), shift) == -math.inf
    # One faulty cosmology of a batch does not hide behind the others.
    field = LogNormalConvergence(PIXELS, ELL, 2, torch.float64)
    both = field.gaussian(torch.stack([correlated(2)[0], spectra]), shift.expand(2, 2)).lowest
    assert (both > 0).tolist() == [True, False]


@BOTH
def test_the_log_density_may_ask_for_gradients_of_everything(law: Law) -> None:
    field = law(Pixels(8, math.radians(5.0)), ELL, 2, torch.float64)
    lensing = KaiserSquires(8, torch.float64)
    spectra, shift = correlated(2)

    def shear(scale: Tensor, relative_shift: Tensor, w: Tensor) -> Tensor:
        gaussian = field.gaussian(scale[:, None] * spectra, relative_shift * shift)
        return lensing.shear(field.convergence(white_modes(w), gaussian)) / shift[0]

    def of_root(scale: Tensor, relative_shift: Tensor) -> tuple[Tensor, Tensor]:
        gaussian = field.gaussian(scale[:, None] * spectra, relative_shift * shift)
        unit = torch.sqrt(spectra[0, 0]) * 1e3
        return gaussian.root / unit, gaussian.variance / unit**2

    scale = torch.tensor([1.0, 0.9, 1.1], dtype=torch.float64, requires_grad=True)
    relative_shift = torch.tensor([1.0, 1.2], dtype=torch.float64, requires_grad=True)
    w = normals(draw_seeds(0, "gradients", 0, 2), (8, 8)).double().requires_grad_()
    assert torch.autograd.gradcheck(shear, (scale, relative_shift, w), fast_mode=False)
    assert torch.autograd.gradcheck(of_root, (scale, relative_shift))


@BOTH
@pytest.mark.parametrize("bins", [1, 2, 5])
@pytest.mark.parametrize("size", [32, 64, 128])
def test_a_draw_is_the_same_alone_and_in_any_batch(size: int, bins: int, law: Law) -> None:
    field = law(Pixels(size, math.radians(10.0)), ELL, bins, torch.float32)
    lensing = KaiserSquires(size, torch.float32)
    base, shift = correlated(bins)
    rows = block_rows(size, bins)
    seeds = draw_seeds(3, "batches", 0, rows + 3)
    scales = 0.7 + 0.6 * torch.arange(rows + 3, dtype=torch.float64) / rows

    def draws(chosen: NDArray[np.int64]) -> tuple[Tensor, ...]:
        def block(index: NDArray[np.int64]) -> tuple[Tensor, ...]:
            which = chosen[index]
            spectra = scales[torch.from_numpy(which)][:, None, None] * base
            gaussian = field.gaussian(spectra, shift.expand(len(which), bins))
            kappa = field.convergence(white_modes(normals(seeds[which], (bins, size, size))), gaussian)
            return gaussian.root, kappa, lensing.shear(kappa)

        return in_blocks(block, len(chosen), rows)

    everything = np.arange(rows + 3)
    together = draws(everything)
    for part in (everything[:1], everything[1:2], everything[-1:], everything[2:7], everything[::-1].copy()):
        for one, all_of_them in zip(draws(part), together, strict=True):
            assert torch.equal(one, all_of_them[torch.from_numpy(part)])
    assert not torch.equal(together[1][0], together[1][1])


def test_blocks_are_always_full() -> None:
    seen: list[list[int]] = []

    def work(index: NDArray[np.int64]) -> tuple[Tensor, ...]:
        seen.append(index.tolist())
        return (torch.from_numpy(index),)

    assert in_blocks(work, 5, 4)[0].tolist() == [0, 1, 2, 3, 4]
    assert seen == [[0, 1, 2, 3], [4, 4, 4, 4]]


@pytest.mark.parametrize("size", [2, 8, 14])
def test_white_modes_are_those_of_a_white_map(size: int) -> None:
    # Each of the N^2 numbers is the coefficient of a map of unit length, at right angles to all others.
    unit = torch.eye(size**2, dtype=torch.float64).unflatten(-1, (size, size))
    basis = torch.fft.irfft2(white_modes(unit), s=(size, size)).flatten(1)
    torch.testing.assert_close(basis @ basis.T, torch.eye(size**2, dtype=torch.float64), rtol=0, atol=1e-13)
    # And they are modes of a real map, so that the inverse transform drops nothing.
    w = normals(draw_seeds(0, "white", 0, 3), (size, size)).double()
    modes = white_modes(w)
    again = torch.fft.rfft2(torch.fft.irfft2(modes, s=(size, size)))
    torch.testing.assert_close(again, modes, rtol=0, atol=1e-12)


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


def test_power_matrix_without_window_is_the_spectrum_at_the_mode() -> None:
    pixels = Pixels(8, math.radians(5.0), window=False)
    multipoles = 2 * math.pi / pixels.extent * np.hypot(*pixels.lags)
    found = power_matrix(pixels, ELL) @ ELL**-1.3
    np.testing.assert_allclose(found[1:], multipoles[1:] ** -1.3, rtol=1e-5)


@pytest.mark.parametrize("bins", [1, 3])
@pytest.mark.parametrize("decorrelation", [0.0, 0.05])
def test_description_has_the_gaussian_fields_and_the_power_of_each_bin(
    bins: int, decorrelation: float
) -> None:
    spectra, shift = correlated(bins)
    autos = [i * (i + 3) // 2 for i in range(bins)]
    power = ModePower(PIXELS, ELL, torch.float64)(spectra)[autos]
    for field, slope in (
        (LogNormalConvergence(PIXELS, ELL, bins, torch.float64, decorrelation=decorrelation), shift),
        (GaussianConvergence(PIXELS, ELL, bins, torch.float64), torch.ones(bins, dtype=torch.float64)),
    ):
        given = shift if isinstance(field, LogNormalConvergence) else shift[:0]
        found = field.described(spectra, given)
        gaussian, expected = found.gaussian, field.gaussian(spectra, given)
        torch.testing.assert_close(gaussian.root, expected.root, rtol=1e-9, atol=0)
        torch.testing.assert_close(gaussian.variance, expected.variance, rtol=1e-12, atol=0)
        torch.testing.assert_close(gaussian.lowest, expected.lowest, rtol=1e-9, atol=0)
        assert torch.equal(gaussian.shift, expected.shift)
        assert torch.equal(found.gain, slope)
        torch.testing.assert_close(found.power, power, rtol=1e-10, atol=0)


def test_mean_power_in_the_central_cell() -> None:
    pixels = Pixels(8, math.radians(5.0))
    radius = 2 * math.sqrt(math.pi) / pixels.extent
    analytic = 2 / 1.5 * radius**-0.5  # mean of ell^-1/2 over a disc
    # Below ell = 2 the spectrum is constant; that part is less than (2 / radius)^1.5 = 1 %.
    assert power_matrix(pixels, ELL)[0] @ ELL**-0.5 == pytest.approx(analytic, rel=0.003)


@pytest.mark.parametrize("size", [8, 32])
def test_kaiser_squires_round_trip_is_exact_and_without_b_mode(size: int) -> None:
    lensing = KaiserSquires(size, torch.float64)
    kappa = normals(draw_seeds(1, "ks", 0, 4), (3, size, size)).double()
    kappa -= kappa.mean((-2, -1), keepdim=True)
    shear = lensing.shear(kappa)
    assert shear.shape == (4, 3, 2, size, size)
    torch.testing.assert_close(lensing.convergence(shear), kappa, rtol=0, atol=1e-13)
    assert float(lensing.b_mode(shear).abs().max()) < 1e-13
    # The alarm rings: shear turned by 45 degrees is all B mode.
    turned = torch.stack([-shear[..., 1, :, :], shear[..., 0, :, :]], -3)
    torch.testing.assert_close(lensing.b_mode(turned), kappa, rtol=0, atol=1e-13)


def test_shear_of_a_plane_wave() -> None:
    # A wave along x is sheared along x, gamma_1 = kappa; one along y has gamma_1 = -kappa.
    x = torch.cos(2 * math.pi * torch.arange(16, dtype=torch.float64) / 16).expand(16, 16)
    lensing = KaiserSquires(16, torch.float64)
    for kappa, sign in ((x, 1.0), (x.T, -1.0)):
        expected = torch.stack([sign * kappa, torch.zeros(16, 16, dtype=torch.float64)])
        torch.testing.assert_close(lensing.shear(kappa), expected, rtol=0, atol=1e-13)


def test_gaussian_spectra_are_those_that_glass_solves_for() -> None:
    """GLASS works on the sphere, with Legendre series; on a patch the two agree where power is left.

    The spectra are smoothed, so that the band limit of the one and the square corners of the other's
    pixels do not matter; the mean effect of a pixel p, W^2 = 1 - (ell p)^2 / 12, does, and multipole l of
    the sphere is ell = l + 1/2 of the plane. The Gaussian spectra differ from C_ij / (lambda_i lambda_j) by
    some per cent.
    """
    glass = pytest.importorskip("glass")
    spectra, shift = correlated(2)
    spectra = spectra * torch.from_numpy(np.exp(-((ELL * math.radians(0.6)) ** 2)))
    shift = 0.4 * shift
    pixels = Pixels(128, math.radians(40.0))
    gaussian = LogNormalConvergence(pixels, ELL, 2, torch.float64).gaussian(spectra, shift)
    modes = (spectra @ torch.from_numpy(power_matrix(pixels, ELL)).T)[
        :, torch.from_numpy(pixels.lag_index[0, :65])
    ]
    ell = np.arange(1000) + 0.5
    pixel = np.exp(-((ell * pixels.extent / pixels.size) ** 2) / 12)
    multipoles = np.arange(65) * 2 * math.pi / pixels.extent
    kept = (multipoles > 20) & (multipoles < 95)  # the smoothing leaves over a third of the power
    for pair, (i, j) in enumerate(((0, 0), (1, 0), (1, 1))):
        power = _power_of_pair(gaussian, pair)[0]
        floors = float(shift[i] * shift[j])
        ours = (power * (pixels.extent / pixels.size) ** 2 / modes[pair]).numpy() * floors
        logarithm = np.log(spectra[pair].numpy() + 1e-300)
        c_ell = pixel * np.exp(np.interp(np.log(np.maximum(ell, 2)), np.log(ELL), logarithm))
        laws = [glass.grf.Lognormal(float(shift[b])) for b in (i, j)]
        with np.errstate(divide="ignore"):  # GLASS divides by its own underflow
            theirs = np.asarray(glass.grf.solve(c_ell, *laws, pad=2000)[0]) / c_ell * floors
        np.testing.assert_allclose(ours[kept], np.interp(multipoles[kept], ell, theirs), rtol=0.004)
        assert (ours[kept] < 0.97).all()


def _power_of_pair(gaussian: Gaussian, pair: int) -> Tensor:
    """S (H, H) of one pair of two bins, from its upper triangular root."""
    first, cross, second = gaussian.root
    return (first**2 + cross**2, cross * second, second**2)[pair]
