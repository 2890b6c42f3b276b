"""Maps made back from shear: against dense linear algebra, closed forms and log-normal truths."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sbikit import SimulationError, draw_seeds, normals
from sbikit_lognormal.options import StarMask, VaryingDepth
from sbikit_lognormal.survey import KaiserSquires, MaskedKaiserSquires, WienerFilter, cut, embed, make_survey

DOUBLE = torch.float64
AMPLITUDE = torch.tensor([[1.0, 1.1], [1.1, 1.8]], dtype=DOUBLE)
SHIFT = torch.tensor([0.02, 0.025], dtype=DOUBLE)
NOISE = (0.02, 0.025)
PAIRS = torch.tril_indices(2, 2)


def wiener_filter(
    power: Tensor, weight: Tensor, *, dtype: torch.dtype = torch.float32, **more: int
) -> WienerFilter:
    """The filter of the box that the power is of."""
    return WienerFilter(KaiserSquires(power.shape[-2], dtype), power, weight, **more)


def filling(mask: Tensor, padding: int = 1, dtype: torch.dtype = torch.float32) -> MaskedKaiserSquires:
    """Kaiser-Squires in a box so many times as wide as the patch."""
    return MaskedKaiserSquires(KaiserSquires(padding * mask.shape[-1], dtype), mask)


def power_matrix(size: int) -> Tensor:
    """Power of two bins of rms 0.01 and 0.013, (2, 2, M, M/2+1)."""
    ky = torch.fft.fftfreq(size, dtype=DOUBLE)[:, None]
    kx = torch.fft.rfftfreq(size, dtype=DOUBLE)[None, :]
    shape = (kx**2 + ky**2 + 0.02**2) ** -0.6
    variance = torch.fft.irfft2(shape.clone(), s=(size, size))[0, 0]
    return AMPLITUDE[:, :, None, None] * 1e-4 * shape / variance


def pairs(power: Tensor) -> Tensor:
    """The lower triangle (pairs, M, M/2+1) of (bins, bins, M, M/2+1)."""
    return power[*torch.tril_indices(len(power), len(power))]


def gaussian(power: Tensor, white: Tensor) -> Tensor:
    """Gaussian maps (..., bins, M, M) of white ones of the same shape."""
    values, vectors = torch.linalg.eigh(power.movedim((0, 1), (-2, -1)))
    root = (vectors * values.clamp(min=0.0).sqrt().unsqueeze(-2)) @ vectors.mT
    modes = torch.einsum("yxij,...jyx->...iyx", root.to(torch.complex128), torch.fft.rfft2(white))
    return torch.fft.irfft2(modes, s=white.shape[-2:])


def lognormal(size: int, count: int) -> Tensor:
    """Log-normal maps (count, 2, M, M) of the power above."""
    xi = torch.fft.irfft2(power_matrix(size), s=(size, size))
    xi_g = torch.log1p(xi / (SHIFT[:, None] * SHIFT[None, :])[..., None, None])
    white = normals(draw_seeds(2, "maps", 0, count), (2, size, size)).double()
    g = gaussian(torch.fft.rfft2(xi_g).real, white)
    variance = torch.diagonal(xi_g[..., 0, 0])
    return SHIFT[:, None, None] * torch.expm1(g - 0.5 * variance[:, None, None])


def patch(size: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Mask (N, N) and noise (2, N, N) of a patch with holes and noise that varies by tens of per cent."""
    made = make_survey(
        size,
        size * 5.0 / 64.0,
        [1.0, 1.0],
        [1.0, 1.0],
        mask=StarMask(density=12.0, radius=2.5, seed=seed),
        depth=VaryingDepth(scatter=0.25, scale=20.0, seed=seed),
    )
    level = made.noise[:, made.mask].mean()
    return made.mask, made.noise / level * torch.tensor(NOISE, dtype=DOUBLE)[:, None, None]


def inverse_square(noise: Tensor) -> Tensor:
    """1 / noise^2, and 0 where noise is 0."""
    return torch.where(noise > 0, noise.clamp(min=1e-9) ** -2, 0.0)


def observed(size: int, padding: int, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Convergence, noiseless and noisy shear of the patch, and its noise."""
    mask, noise = patch(size)
    box = lognormal(size * padding, count)
    clean = mask * cut(KaiserSquires(size * padding, DOUBLE).shear(box), size)
    white = normals(draw_seeds(3, "noise", 0, count), (2, 2, size, size)).double()
    return cut(box, size), clean, clean + noise.unsqueeze(-3) * white, noise


def rms(maps: Tensor) -> float:
    """Root mean square."""
    return float(maps.square().mean().sqrt())


def centred(maps: Tensor) -> Tensor:
    """Maps less their mean."""
    return maps - maps.mean((-2, -1), keepdim=True)


def dense_wiener(power: Tensor, noise: Tensor, shear: Tensor) -> Tensor:
    """S D^T (D S D^T + N)^-1 gamma over the observed pixels, with matrices written out.

    Args:
        power: (2, 2, M, M/2+1).
        noise: (2, N, N).
        shear: (2, 2, N, N).
    """
    size, inner = power.shape[-2], noise.shape[-1]
    n = size**2
    index = torch.arange(size)
    xi = torch.fft.irfft2(power, s=(size, size))
    lag = (index[:, None] - index[None, :]) % size
    covariance = xi[:, :, lag[:, None, :, None], lag[None, :, None, :]]
    covariance = covariance.reshape(2, 2, n, n).permute(0, 2, 1, 3).reshape(2 * n, 2 * n)
    units = torch.eye(2 * n, dtype=DOUBLE).reshape(2 * n, 2, size, size)
    lens = KaiserSquires(size, DOUBLE).shear(units).reshape(2 * n, -1).T
    deviation = embed(noise, size).unsqueeze(-3).expand(2, 2, size, size).reshape(-1)
    seen = deviation > 0
    model = lens[seen]
    total = model @ covariance @ model.T + torch.diag(deviation[seen] ** 2)
    data = embed(shear, size).reshape(-1)[seen]
    kappa = covariance @ model.T @ torch.linalg.solve(total, data)
    return cut(kappa.reshape(2, size, size), inner)


@pytest.mark.parametrize(("box", "size"), [(8, 8), (8, 4), (7, 7), (9, 5)])
def test_wiener_is_the_dense_solution(box: int, size: int) -> None:
    power = power_matrix(box)
    generator = torch.Generator().manual_seed(1)
    noise = 0.01 * (0.5 + torch.rand(2, size, size, dtype=DOUBLE, generator=generator))
    hidden = torch.rand(size, size, generator=generator) < 0.25
    noise[:, hidden] = 0.0
    shear = 0.03 * torch.randn(2, 2, size, size, dtype=DOUBLE, generator=generator)
    found = wiener_filter(pairs(power), inverse_square(noise), iterations=150, dtype=DOUBLE).convergence(
        shear
    )
    expected = dense_wiener(power, noise, shear)
    expected = expected if box > size else centred(expected)
    assert int(hidden.sum()) > 0
    assert float((found - expected).abs().max()) < 1e-6 * float(expected.abs().max())


def test_wiener_is_closed_on_a_complete_periodic_patch() -> None:
    size = 16
    power, sigma = power_matrix(size), torch.tensor(NOISE, dtype=DOUBLE)
    weight = (sigma**-2)[:, None, None].expand(2, size, size)
    white = normals(draw_seeds(1, "maps", 0, 300), (2, size, size)).double()
    kappa = centred(gaussian(power, white))
    numbers = normals(draw_seeds(1, "noise", 0, 300), (2, 2, size, size)).double()
    shear = KaiserSquires(size, DOUBLE).shear(kappa) + sigma[:, None, None, None] * numbers
    found = wiener_filter(pairs(power), weight, dtype=DOUBLE).convergence(shear)

    matrix = power.movedim((0, 1), (-2, -1))
    gain = matrix @ torch.linalg.inv(matrix + torch.diag(sigma**2))
    modes = torch.fft.rfft2(KaiserSquires(size, DOUBLE).convergence(shear))
    expected = torch.fft.irfft2(
        torch.einsum("yxij,bjyx->biyx", gain.to(torch.complex128), modes), s=(size, size)
    )
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-13)

    left = (matrix - gain @ matrix).diagonal(dim1=-2, dim2=-1).movedim(-1, 0).clone()
    left[:, 0, 0] = 0.0
    predicted = torch.fft.irfft2(left, s=(size, size))[:, 0, 0]
    errors = (found - kappa).square().mean((-2, -1))
    scatter = errors.std(0) / math.sqrt(len(errors))
    assert bool((scatter < 0.02 * predicted).all())
    assert bool(((errors.mean(0) - predicted).abs() < 4 * scatter).all())


def test_bins_that_move_as_one_are_no_obstacle() -> None:
    power = power_matrix(16)
    power = torch.stack([torch.stack([power[0, 0], 2 * power[0, 0]]), 2 * torch.stack([power[0, 0]] * 2)])
    power[1, 1] = 4 * power[0, 0]
    mask, noise = patch(16)
    shear = mask * 0.03 * normals(draw_seeds(1, "x", 0, 1), (2, 2, 16, 16))[0].double()
    found = wiener_filter(pairs(power), inverse_square(noise), dtype=DOUBLE).convergence(shear)
    assert rms(found) > 0
    torch.testing.assert_close(found[1], 2 * found[0], rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(("padding", "most"), [(1, 1e-5), (2, 3e-3)])
def test_the_shipped_number_of_iterations(padding: int, most: float) -> None:
    _, _, shear, noise = observed(32, padding, 4)
    power, weight = pairs(power_matrix(32 * padding)), inverse_square(noise)
    converged = wiener_filter(power, weight, iterations=120, dtype=DOUBLE).convergence(shear)
    shipped = wiener_filter(power, weight, dtype=DOUBLE).convergence(shear)
    few = wiener_filter(power, weight, iterations=2, dtype=DOUBLE).convergence(shear)
    assert rms(shipped - converged) < most * rms(converged)
    assert rms(few - converged) > 3 * rms(shipped - converged)


@pytest.mark.parametrize("padding", [1, 2])
def test_errors_of_the_maps_are_in_order(padding: int) -> None:
    size = 32
    kappa, clean, shear, noise = observed(size, padding, 48)
    truth, mask = centred(kappa), noise[0] > 0
    squares = KaiserSquires(size * padding, DOUBLE)
    filled = filling(mask, padding, DOUBLE)
    wiener = wiener_filter(pairs(power_matrix(size * padding)), inverse_square(noise), dtype=DOUBLE)

    def zero_filled(maps: Tensor) -> Tensor:
        return centred(cut(squares.convergence(embed(maps, size * padding)), size))

    def error(maps: Tensor, where: Tensor) -> float:
        return rms((centred(maps) - truth)[..., where]) / rms(truth[..., where])

    assert error(filled.convergence(clean), mask) < 0.5 * error(zero_filled(clean), mask)
    assert error(filled.convergence(clean), ~mask) < 0.7 * error(zero_filled(clean), ~mask)
    for where in (mask, ~mask):
        assert error(wiener.convergence(shear), where) < 0.95
        assert error(wiener.convergence(shear), where) < 0.6 * error(zero_filled(shear), where)
        assert error(wiener.convergence(shear), where) < 0.6 * error(filled.convergence(shear), where)


def test_wiener_beats_a_filter_of_the_wrong_power() -> None:
    kappa, _, shear, noise = observed(32, 1, 48)
    power, weight = pairs(power_matrix(32)), inverse_square(noise)
    errors = [
        rms(wiener_filter(factor * power, weight, dtype=DOUBLE).convergence(shear) - centred(kappa))
        for factor in (0.3, 1.0, 3.0)
    ]
    assert errors[1] == min(errors)


def test_a_complete_periodic_patch_is_inverted_directly() -> None:
    shear = normals(draw_seeds(1, "x", 0, 3), (2, 2, 16, 16)).double()
    found = filling(torch.ones(16, 16, dtype=torch.bool), dtype=DOUBLE).convergence(shear)
    torch.testing.assert_close(found, KaiserSquires(16, DOUBLE).convergence(shear), rtol=0.0, atol=1e-14)


def test_filling_is_linear_blind_to_masked_values_and_of_zero_mean() -> None:
    _, _, shear, noise = observed(32, 2, 3)
    mask = noise[0] > 0
    filled = filling(mask, 2, DOUBLE)
    found = filled.convergence(shear)
    assert float(found.mean((-2, -1)).abs().max()) < 1e-15
    assert torch.equal(filled.convergence(torch.where(mask, shear, math.nan)), found)
    both = filled.convergence(shear[0] + 2 * shear[1])
    torch.testing.assert_close(both, found[0] + 2 * found[1], rtol=0.0, atol=1e-14)


def test_the_output_holds_no_b_mode() -> None:
    _, clean, _, noise = observed(32, 1, 3)
    squares = KaiserSquires(32, DOUBLE)
    found = filling(noise[0] > 0, 1, DOUBLE).convergence(clean)
    assert rms(squares.b_mode(clean)) > 0.05 * rms(found)
    assert rms(squares.b_mode(squares.shear(found))) < 1e-14
    one, two = squares.shear(lognormal(32, 1)).unbind(-3)
    turned = torch.stack([-two, one], dim=-3)
    complete = filling(torch.ones(32, 32, dtype=torch.bool), dtype=DOUBLE)
    assert rms(complete.convergence(turned)) < 0.1 * rms(found)


@pytest.mark.parametrize("padding", [1, 2])
def test_a_map_is_the_same_alone_and_in_any_batch(padding: int) -> None:
    _, _, shear, noise = observed(16, padding, 7)
    shear = shear.float()
    wiener = wiener_filter(pairs(power_matrix(16 * padding)), inverse_square(noise))
    filled = filling(noise[0] > 0, padding)
    for invert in (wiener.convergence, filled.convergence):
        assert torch.equal(invert(shear)[2:4], invert(shear[2:4]))
        assert torch.equal(invert(shear)[5], invert(shear[[5, 5]])[0])
        assert torch.equal(invert(shear), invert(shear))
        assert invert(shear.unflatten(0, (7, 1))).shape == (7, 1, 2, 16, 16)


def test_single_precision_is_near_double() -> None:
    _, _, shear, noise = observed(32, 2, 3)
    power, weight = pairs(power_matrix(64)), inverse_square(noise)
    double = wiener_filter(power, weight, dtype=DOUBLE).convergence(shear)
    single = wiener_filter(power, weight).convergence(shear.float())
    assert single.dtype == torch.float32
    assert rms(single - double) < 1e-4 * rms(double)


def test_no_shear_gives_an_empty_map() -> None:
    _, noise = patch(16)
    wiener = wiener_filter(pairs(power_matrix(16)), inverse_square(noise))
    assert bool((wiener.convergence(torch.zeros(3, 2, 2, 16, 16)) == 0).all())


def test_power_spectra_of_no_field_are_refused() -> None:
    power = power_matrix(16)
    power[0, 1] = power[1, 0] = 1.5 * power[1, 1]
    _, noise = patch(16)
    with pytest.raises(SimulationError, match="No field") as caught:
        wiener_filter(pairs(power), inverse_square(noise))
    assert all((caught.value.where, caught.value.expected, caught.value.got, caught.value.fix))
