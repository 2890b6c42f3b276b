"""Shear and convergence: grids of every size, and the convention of axes and signs, held by treecorr."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sbikit import SpecError, draw_seeds, normals
from sbikit_lognormal.field import Pixels
from sbikit_lognormal.survey import KaiserSquires, cut, embed

Array = NDArray[np.float64]
DOUBLE = torch.float64
SIZES = [1, 2, 3, 4, 5, 8, 9, 31, 32, 33]


def fourier_sum(kappa: Array) -> Array:
    """Shear (2, N, N) of convergence (N, N), every mode of the full plane by hand, Nyquist left out."""
    size = len(kappa)
    m = np.arange(size)
    wave = np.exp(-2j * np.pi * np.outer(m, m) / size)
    modes = wave @ kappa @ wave.T
    k = np.where(m > size / 2, m - size, m).astype(float)
    k[2 * np.abs(k) == size] = np.nan
    kx, ky = k[None, :], k[:, None]
    square = np.where(kx**2 + ky**2 > 0, kx**2 + ky**2, 1.0)
    back = wave.conj() / size
    factors = ((kx**2 - ky**2) / square, 2 * kx * ky / square)
    return np.array([(back @ (np.nan_to_num(d) * modes) @ back.T).real for d in factors])


def white(size: int) -> torch.Tensor:
    """Maps (3, N, N) of zero mean, float64."""
    maps = normals(draw_seeds(5, "white", 0, 3), (size, size)).double()
    return maps - maps.mean((-2, -1), keepdim=True)


@pytest.mark.parametrize("size", SIZES)
def test_the_round_trip_is_exact_on_every_grid(size: int) -> None:
    lensing, kappa = KaiserSquires(size, DOUBLE), white(size)
    shear = lensing.shear(kappa)
    torch.testing.assert_close(lensing.convergence(shear), kappa, rtol=0, atol=1e-13)
    assert float(lensing.b_mode(shear).abs().max()) < 1e-13


@pytest.mark.parametrize("size", SIZES)
def test_shear_is_the_fourier_sum_on_every_grid(size: int) -> None:
    kappa = white(size)
    if size % 2 == 0:
        modes = torch.fft.rfft2(kappa)
        modes[:, size // 2], modes[..., size // 2] = 0.0, 0.0
        kappa = torch.fft.irfft2(modes, s=(size, size))
    shear = KaiserSquires(size, DOUBLE).shear(kappa).numpy()
    expected = np.array([fourier_sum(one) for one in kappa.numpy()])
    np.testing.assert_allclose(shear, expected, rtol=0, atol=1e-13)


def test_the_finest_waves_have_the_sign_of_all_others() -> None:
    stripes = (-1.0) ** torch.arange(8, dtype=DOUBLE)
    lensing = KaiserSquires(8, DOUBLE)
    for kappa, sign in ((stripes.expand(8, 8), 1.0), (stripes.expand(8, 8).T, -1.0)):
        one, two = lensing.shear(kappa.contiguous())
        torch.testing.assert_close(one, sign * kappa, rtol=0, atol=1e-14)
        assert float(two.abs().max()) < 1e-14


def test_maps_on_another_grid_are_refused() -> None:
    lensing = KaiserSquires(8, DOUBLE)
    for shape in ((8, 9), (9, 9), (1, 1), (7, 8)):  # 8 and 9 columns have as many modes
        with pytest.raises(SpecError, match=r"8, 8"):
            lensing.shear(torch.zeros(shape, dtype=DOUBLE))
    for made in (lambda: KaiserSquires(0, DOUBLE), lambda: Pixels(33, 0.1), lambda: Pixels(0, 0.1)):
        with pytest.raises(SpecError):
            made()


def test_a_patch_that_cannot_be_central_is_refused() -> None:
    maps = torch.zeros(2, 6, 6)
    for size in (5, 7, 8):
        with pytest.raises(SpecError, match="centre"):
            cut(maps, size)
    for size in (5, 7, 4):
        with pytest.raises(SpecError, match="centre"):
            embed(maps, size)


# --- axes and signs ---------------------------------------------------------------------------

SIZE = 129
CENTRE = SIZE // 2
X, Y = np.meshgrid(np.arange(SIZE) - CENTRE, np.arange(SIZE) - CENTRE)  # x along columns, y along rows


def halo(long: float = 4.0, short: float = 4.0, angle: float = 0.0) -> Array:
    """A mass (N, N), its long axis at `angle` from x towards y."""
    along = X * math.cos(angle) + Y * math.sin(angle)
    across = Y * math.cos(angle) - X * math.sin(angle)
    return np.exp(-0.5 * ((along / long) ** 2 + (across / short) ** 2))


def sheared(kappa: Array) -> tuple[Array, Array]:
    """gamma_1 and gamma_2, (N, N)."""
    one, two = KaiserSquires(SIZE, DOUBLE).shear(torch.from_numpy(kappa)).numpy()
    return one, two


def tangential(
    at: dict[str, Array], g1: Array, g2: Array, chosen: NDArray[np.bool_], unit: float = 1.0, **units: Any
) -> tuple[Array, Array, Array]:
    """Separation, tangential and cross shear about the centre, by treecorr, over the chosen pixels.

    Args:
        at: positions of the pixels, (N, N), by treecorr's names.
        g1: (N, N).
        g2: (N, N).
        chosen: (N, N).
        unit: of the separations 5.5 to 20.5.
        units: of the positions.
    """
    treecorr = pytest.importorskip("treecorr")
    lens = treecorr.Catalog(**{name: np.zeros(1) for name in at}, **units)
    places = {name: values[chosen] for name, values in at.items()}
    sources = treecorr.Catalog(**places, g1=g1[chosen], g2=g2[chosen], **units)
    binning = {"sep_units": "deg"} if units else {}
    profile = treecorr.NGCorrelation(
        min_sep=5.5 * unit, max_sep=20.5 * unit, nbins=5, bin_slop=0.0, **binning
    )
    profile.process(lens, sources)
    return profile.meanr, profile.xi, profile.xi_im


FLAT = {"x": X, "y": Y}
EVERYWHERE = np.hypot(X, Y) > 0
ON_AXES = EVERYWHERE & ((X == 0) | (Y == 0))
ON_DIAGONALS = EVERYWHERE & (np.abs(X) == np.abs(Y))


@pytest.mark.parametrize("chosen", [EVERYWHERE, ON_AXES, ON_DIAGONALS])
def test_shear_around_a_mass_is_tangential(chosen: NDArray[np.bool_]) -> None:
    # A mass of the profile exp(-r^2 / 2 s^2) has gamma_t = mean kappa within r - kappa(r).
    r, found, cross = tangential(FLAT, *sheared(halo()), chosen)
    t = 0.5 * (r / 4.0) ** 2
    expected = (1 - np.exp(-t)) / t - np.exp(-t)
    np.testing.assert_allclose(found, expected, atol=0.05 * expected.max())
    assert np.abs(cross).max() < 1e-3


def test_the_alarm_rings_for_each_sign_and_for_axes_exchanged() -> None:
    g1, g2 = sheared(halo())
    _, right, _ = tangential(FLAT, g1, g2, EVERYWHERE)
    _, without_two, _ = tangential(FLAT, g1, -g2, EVERYWHERE)
    _, without_one, _ = tangential(FLAT, -g1, g2, EVERYWHERE)
    _, radial, _ = tangential(FLAT, -g1, -g2, EVERYWHERE)
    _, exchanged, _ = tangential({"x": Y, "y": X}, g1, g2, EVERYWHERE)
    for wrong in (without_one, without_two, exchanged):
        assert (np.abs(wrong) < 0.1 * right).all()
    np.testing.assert_allclose(radial, -right, rtol=1e-10)


def test_on_the_sky_x_points_west_and_catalogues_with_x_east_flip_gamma_2() -> None:
    # 129 pixels of a tenth of a degree about (0, 0); treecorr sees North up and East to the left.
    g1, g2 = sheared(halo())
    _, flat, _ = tangential(FLAT, g1, g2, EVERYWHERE)
    x, y = 0.1 * X, 0.1 * Y

    def on_sky(ra: Array, two: Array) -> Array:
        at = {"ra": ra, "dec": y}
        return tangential(at, g1, two, EVERYWHERE, unit=0.1, ra_units="deg", dec_units="deg")[1]

    np.testing.assert_allclose(on_sky(-x, g2), flat, rtol=0.02)
    np.testing.assert_allclose(on_sky(x, -g2), flat, rtol=0.02)
    assert (np.abs(on_sky(x, g2)) < 0.1 * flat).all()


@pytest.mark.parametrize("angle", [0.0, math.pi / 6, 2.0, -math.pi / 4])
def test_shear_of_a_tilted_mass_is_the_integral_in_real_space(angle: float) -> None:
    # gamma(x) = 1/pi int d^2x' D(x - x') kappa(x'), D = -exp(2 i phi) / r^2 (Bartelmann and Schneider 2001,
    # equation 3.15); the images of the periodic box are far.
    kappa = halo(8.0, 3.0, angle)
    g1, g2 = sheared(kappa)
    near = np.hypot(X, Y) < 40
    xs, ys, mass = X[near], Y[near], kappa[near]
    scale = max(np.abs(g1).max(), np.abs(g2).max())
    for column, row in ((12, 0), (-9, 9), (3, 15), (-14, -5), (7, -11), (0, 2)):
        dx, dy = column - xs, row - ys
        square = np.where((dx == 0) & (dy == 0), 1, dx**2 + dy**2)
        expected = -(mass * (dx + 1j * dy) ** 2 / square**2).sum() / math.pi
        got = g1[CENTRE + row, CENTRE + column] + 1j * g2[CENTRE + row, CENTRE + column]
        assert abs(got - expected) < 0.03 * scale


def test_position_angles_from_north_through_east() -> None:
    # Images that lie across the line to the centre, by their position angle p.
    angle = np.arctan2(-X, Y) + math.pi / 2  # West is x, so that East is -x
    g1, g2 = -np.cos(2 * angle), -np.sin(2 * angle)
    _, flat, cross = tangential(FLAT, g1, g2, EVERYWHERE)
    np.testing.assert_allclose(flat, 1.0, rtol=0.01)
    np.testing.assert_allclose(cross, 0.0, atol=0.01)
    sky = {"ra": -0.1 * X, "dec": 0.1 * Y}
    on_sky = tangential(sky, g1, g2, EVERYWHERE, unit=0.1, ra_units="deg", dec_units="deg")[1]
    np.testing.assert_allclose(on_sky, 1.0, rtol=0.01)
