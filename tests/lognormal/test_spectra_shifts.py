"""The shift: Hilbert's fit against GLASS, perturbation theory against the bispectrum it comes from."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.interpolate import CubicSpline
from scipy.ndimage import map_coordinates
from scipy.special import gamma, j1

from sbikit import OptionError
from sbikit_lognormal.build.matter import matter_power
from sbikit_lognormal.spectra import (
    ELL,
    Fixed,
    Hilbert2011,
    Limber,
    TabulatedShift,
    TreeLevel,
    Unbounded,
    Z,
    disc_of_pixel,
    equal_sources,
    hilbert2011,
)

FIDUCIAL = (0.2664, 0.0492, 0.831, 0.6727, 0.9645, -1.0)
MILLENNIUM = (0.205, 0.045, 0.9, 0.73, 1.0, -1.0)
RADIUS = math.radians(10.0 / 60.0)


def _tensor(values: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.fixture(scope="module")
def limber() -> Limber:
    return Limber(equal_sources(2.0, 0.68, 0.11, 5, 0.05))


@pytest.fixture(scope="module")
def log_linear() -> torch.Tensor:
    return torch.from_numpy(matter_power(FIDUCIAL).linear(ELL, Z))


def test_hilbert_is_the_fit_that_glass_has() -> None:
    glass = pytest.importorskip("glass")
    z = np.linspace(0.1, 3.0, 20)
    np.testing.assert_allclose(
        hilbert2011(z), [glass.lognormal_shift_hilbert2011(value) for value in z.tolist()], rtol=1e-12
    )


def test_hilbert_is_carried_by_the_empty_beam(limber: Limber) -> None:
    shift = Hilbert2011(limber)
    assert not shift.needs_linear
    in_millennium = shift(_tensor(MILLENNIUM)).numpy()
    np.testing.assert_allclose(in_millennium, hilbert2011(limber.sources.mean), rtol=1e-12)
    denser = shift(_tensor((0.355, 0.045, *MILLENNIUM[2:]))).numpy()
    assert (denser > 1.2 * in_millennium).all()


def test_the_empty_beam_of_one_source_plane_in_einstein_de_sitter() -> None:
    # kappa = 3/2 int du (1 + z) u (1 - u / u_s) with 1 + z = (1 - u / 2)^-2, so u_s is known and so is kappa.
    narrow = Limber(equal_sources(2.0, 0.68, 0.11, 1, 0.05))
    cosmology = _tensor((0.95, 0.05, 0.8, 100.0, 1.0, -1.0))
    beam = float(narrow.integral(cosmology, narrow.kernel(cosmology))[0])
    nodes, weight = np.polynomial.legendre.leggauss(200)
    n_z = narrow.sources.n_z[0]
    planes = []
    for z in narrow.sources.z[1:]:
        u_s = 2 * (1 - (1 + z) ** -0.5)
        u = 0.5 * u_s * (nodes + 1)
        planes.append(0.5 * u_s * weight @ (1.5 * (1 - u / 2) ** -2 * u * (1 - u / u_s)))
    expected = np.trapezoid(n_z * np.array([0.0, *planes]), narrow.sources.z)
    np.testing.assert_allclose(beam, expected, rtol=1e-5)


def test_third_moment_of_a_cylinder_is_that_of_the_bispectrum() -> None:
    # S_3 = 36/7 + 3/2 dln V / dln R against the tree-level bispectrum of modes across the line of sight.
    def power(k: np.ndarray) -> np.ndarray:
        return np.exp(-0.3 * k**2)

    def window(k: np.ndarray) -> np.ndarray:
        return 2 * j1(k) / k

    nodes, weight = np.polynomial.legendre.leggauss(120)
    k, dk = 4.5 * (nodes + 1), 4.5 * weight
    angle = np.pi * (np.arange(200) + 0.5) / 200
    one, two, cosine = k[:, None, None], k[None, :, None], np.cos(angle)
    both = np.sqrt(one**2 + two**2 + 2 * one * two * cosine)
    coupling = 5 / 7 + 0.5 * cosine * (one / two + two / one) + 2 / 7 * cosine**2
    factor = k * dk * power(k) * window(k) / (2 * np.pi)
    third = 6 * np.einsum("i,j,ij->", factor, factor, (coupling * window(both)).mean(-1))
    variance = (k * dk * power(k) * window(k) ** 2).sum() / (2 * np.pi)
    from_shape = (k * dk * power(k) * window(k) * 2 * (window(1.0001 * k) - window(k)) / 1e-4).sum() / (
        2 * np.pi
    )
    expected = 36 / 7 + 1.5 * from_shape / variance
    np.testing.assert_allclose(third / variance**2, expected, rtol=1e-3)


@pytest.mark.parametrize("n", [-0.5, -0.9])
def test_tree_level_of_a_power_law_in_einstein_de_sitter(limber: Limber, n: float) -> None:
    # P(k) = k^n / (1 + z)^2 and u = 2 [1 - (1 + z)^-1/2], so all but the integrals over z is known.
    z = 5.0 * np.linspace(1e-5, 1.0, 2000) ** 2
    n_z = CubicSpline(limber.sources.z, limber.sources.n_z, axis=-1)(z)
    u = 2 * (1 - (1 + z) ** -0.5)
    t = 1.0 - n  # 4 int J_1(x)^2 x^-t dx
    integral = 4 * gamma(t) * gamma(1.5 - t / 2) / (2**t * gamma(0.5 + t / 2) ** 2 * gamma(1.5 + t / 2))
    variance = (1 + z) ** -2 * u**-n * RADIUS ** (-n - 2) * integral / (2 * np.pi)
    third = (36 / 7 - 1.5 * (n + 2)) * variance**2
    efficiency = [np.trapezoid(np.clip(1 - at / u, 0.0, None) * n_z, z) for at in u]
    kernel = 1.5 * (1 + z) * u * np.array(efficiency).T
    second_moment = np.trapezoid((kernel / u) ** 2 * variance * (1 + z) ** -1.5, z)
    third_moment = np.trapezoid(kernel**3 / u**4 * third * (1 + z) ** -1.5, z)

    u_nodes = 2 * (1 - (1 + Z) ** -0.5)
    log_power = n * (np.log(ELL) - np.log(u_nodes)[:, None]) - 2 * np.log1p(Z)[:, None]
    cosmology = _tensor((0.95, 0.05, 0.8, 100.0, 1.0, -1.0))
    got = TreeLevel(limber, RADIUS)(cosmology, torch.from_numpy(log_power)).numpy()
    np.testing.assert_allclose(got, 3 * second_moment**2 / third_moment, rtol=2e-3)


def test_tree_level_depends_on_redshift_and_density_but_not_on_amplitude(
    limber: Limber, log_linear: torch.Tensor
) -> None:
    shift = TreeLevel(limber, RADIUS)
    assert shift.needs_linear
    values = shift(_tensor(FIDUCIAL), log_linear)
    assert (values.diff() > 0).all()
    # At lowest order the skewness does not depend on the amplitude.
    torch.testing.assert_close(shift(_tensor(FIDUCIAL), log_linear + 0.7), values, rtol=1e-12, atol=0.0)
    # The denser the universe, the less skewed is its convergence.
    assert (shift(_tensor((0.3664, *FIDUCIAL[1:])), log_linear) > 1.1 * values).all()


def test_tree_level_without_the_linear_power_is_a_defect(limber: Limber) -> None:
    with pytest.raises(TypeError, match="linear matter power"):
        TreeLevel(limber, RADIUS)(_tensor(FIDUCIAL))


def test_gradients_are_those_of_finite_differences(limber: Limber, log_linear: torch.Tensor) -> None:
    cosmology = torch.tensor([FIDUCIAL, MILLENNIUM], dtype=torch.float64, requires_grad=True)
    power = torch.stack([log_linear, log_linear])
    tilt = torch.tensor([0.1, -0.2], dtype=torch.float64, requires_grad=True)
    tree, hilbert = TreeLevel(limber, RADIUS), Hilbert2011(limber)

    def tilted(values: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
        return tree(values, power + slope[:, None, None] * torch.from_numpy(np.log(ELL)))

    assert torch.autograd.gradcheck(tilted, (cosmology, tilt), eps=1e-5, atol=1e-6)
    assert torch.autograd.gradcheck(hilbert, cosmology, eps=1e-5, atol=1e-6)


def test_a_fixed_shift_is_what_was_given() -> None:
    shift = Fixed((0.01, 0.03), 2)
    assert not shift.needs_linear
    values = shift(torch.ones(4, 6, dtype=torch.float64))
    assert values.tolist() == [[0.01, 0.03]] * 4
    for wrong in ((0.01,), (0.01, -0.02), (0.01, float("nan")), ()):
        with pytest.raises(OptionError, match="shift"):
            Fixed(wrong, 2)


def test_the_disc_of_a_pixel_has_its_area() -> None:
    assert math.pi * disc_of_pixel(3.0) ** 2 == pytest.approx(9.0)


OMEGA_M, SIGMA_8 = np.linspace(0.2, 0.4, 6), np.linspace(0.6, 1.0, 5)
LAMBDA = 0.01 + 0.07 * OMEGA_M[:, None] + 0.01 * np.sin(3 * SIGMA_8) + 0.02 * OMEGA_M[:, None] * SIGMA_8**2


def rows() -> list[str]:
    """Lines of a table, its header first."""
    grid = [(m, s, LAMBDA[i, j]) for i, m in enumerate(OMEGA_M) for j, s in enumerate(SIGMA_8)]
    return ["Omega_m, sigma_8, lambda", *(f"{m:.17g}, {s:.17g}, {value:.17g}" for m, s, value in grid)]


def table(folder: Path, lines: list[str]) -> Path:
    """A file of these lines."""
    path = folder / "shift.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def cosmologies(omega_m: np.ndarray, sigma_8: np.ndarray) -> torch.Tensor:
    """Cosmologies (n, 6), a sixth of whose matter is baryons."""
    others = [np.full_like(omega_m, value) for value in (0.67, 0.96, -1.0)]
    return torch.from_numpy(np.stack([omega_m * 5 / 6, omega_m / 6, sigma_8, *others], -1))


def test_a_table_is_interpolated_as_scipy_does(tmp_path: Path) -> None:
    header, *lines = rows()
    shift = TabulatedShift(table(tmp_path, [header, *reversed(lines)]), 1)
    assert not shift.needs_linear
    random = np.random.default_rng(0)
    omega_m, sigma_8 = random.uniform(0.1, 0.5, 500), random.uniform(0.4, 1.2, 500)
    omega_m[:6], sigma_8[:5] = OMEGA_M, SIGMA_8
    place = np.stack([(omega_m - 0.2) / 0.2 * 5, (sigma_8 - 0.6) / 0.4 * 4])
    expected = map_coordinates(LAMBDA, place, order=1, mode="nearest")
    found = shift(cosmologies(omega_m, sigma_8))
    assert found.shape == (500, 1)
    np.testing.assert_allclose(found[:, 0].numpy(), expected, rtol=1e-12)
    inside = (np.abs(omega_m - 0.3) < 0.1) & (np.abs(sigma_8 - 0.8) < 0.2)
    assert 20 < inside.sum() < 200


def test_gradient_of_a_table_and_beyond_its_edge(tmp_path: Path) -> None:
    shift = TabulatedShift(table(tmp_path, rows()), 1)
    inside = cosmologies(np.array([0.25, 0.33]), np.array([0.66, 0.93])).requires_grad_()
    assert torch.autograd.gradcheck(shift, inside, eps=1e-6, atol=1e-9)
    beyond = cosmologies(np.array([0.1, 0.45, 0.3]), np.array([0.8, 0.8, 1.1])).requires_grad_()
    (gradient,) = torch.autograd.grad(shift(beyond).sum(), beyond)
    assert gradient[:2, 0].tolist() == [0.0, 0.0]
    assert gradient[:2, 2].abs().min() > 0
    assert gradient[2, 2] == 0.0
    assert gradient[2, 0] == gradient[2, 1] > 0


@pytest.mark.parametrize(
    ("spoil", "got"),
    [
        (lambda lines: lines[1:], "a first line '0.2"),
        (lambda lines: ["sigma_8, Omega_m, lambda", *lines[1:]], "a first line 'sigma_8"),
        (lambda lines: lines[:-1], "29 rows of 6 Omega_m and 5 sigma_8"),
        (lambda lines: [*lines, lines[-1]], "31 rows of 6 Omega_m and 5 sigma_8"),
        (lambda lines: [*lines[:-1], lines[-2]], "30 rows of 6 Omega_m and 5 sigma_8"),
        (lambda lines: lines[:6], "5 rows of 1 Omega_m and 5 sigma_8"),
        (lambda lines: lines[:1], "numbers of shape (0,)"),
        (lambda lines: [], "a first line ''"),
        (lambda lines: [*lines[:-1], "0.4, 1.0, x"], "ValueError"),
        (lambda lines: [*lines[:-1], "0.4, 1.0"], "ValueError"),
        (lambda lines: [lines[0], "0.4, 1.0"], "numbers of shape (1, 2)"),
        (lambda lines: [*lines[:-1], "0.4, 1.0, 0.0"], "not positive"),
        (lambda lines: [*lines[:-1], "0.4, 1.0, nan"], "not finite"),
    ],
)
def test_a_damaged_table_is_refused(
    tmp_path: Path, spoil: Callable[[list[str]], list[str]], got: str
) -> None:
    with pytest.raises(OptionError, match="shift cannot be read") as caught:
        TabulatedShift(table(tmp_path, spoil(rows())), 1)
    assert caught.value.where == "simulator.shift.table"
    assert got in caught.value.got


def test_a_table_that_is_missing_or_for_several_bins_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="cannot be read") as caught:
        TabulatedShift(tmp_path / "none.csv", 1)
    assert "FileNotFoundError" in caught.value.got
    (tmp_path / "binary.csv").write_bytes(bytes(range(256)))
    with pytest.raises(OptionError, match="cannot be read") as caught:
        TabulatedShift(tmp_path / "binary.csv", 1)
    assert "UnicodeDecodeError" in caught.value.got
    with pytest.raises(OptionError, match="one bin"):
        TabulatedShift(table(tmp_path, rows()), 2)


def test_an_unbounded_field_has_no_shift() -> None:
    assert Unbounded()(torch.ones(4, 6, dtype=torch.float64)).shape == (4, 0)
