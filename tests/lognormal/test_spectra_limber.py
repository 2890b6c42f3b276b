"""Spectra of every pair of bins against pyccl and against dense quadrature; gradients; growth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lognormal_cases import pyccl_universe
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from scipy.interpolate import CubicSpline

from sbikit import SimulationError
from sbikit_lognormal.build.matter import MatterPower, matter_power
from sbikit_lognormal.cosmology import Cosmology, expansion, growth
from sbikit_lognormal.options import MAX_PHOTO_Z_SHIFT
from sbikit_lognormal.spectra import ELL, WEIGHTS, Emulator, Limber, Sources, Z, equal_sources

Array = NDArray[np.float64]

FIDUCIAL = (0.2664, 0.0492, 0.831, 0.6727, 0.9645, -1.0)
PHANTOM = (0.2664, 0.0492, 0.831, 0.6727, 0.9645, -1.5)
DILUTE = (0.2, 0.04, 0.7, 0.75, 0.9, -0.6)
DENSE = (0.38, 0.055, 0.9, 0.65, 1.02, -1.3)
SPARSE = (0.15, 0.035, 0.95, 0.7, 0.95, -0.8)
COSMOLOGIES = (FIDUCIAL, PHANTOM, DILUTE, DENSE, SPARSE)
FIVE_BINS = equal_sources(2.0, 0.68, 0.11, 5, 0.05)
PYCCL_ALIGNMENT = 5e-14 * 2.7753662719e11  # its C_1 rho_crit, where ours is 0.0134


def deviation_from_pyccl(
    cosmology: tuple[float, ...],
    sources: Sources,
    ell: Array,
    *,
    photo_z_shift: tuple[float, ...] | None = None,
    alignment: tuple[float, float] | None = None,
    power: Emulator | None = None,
) -> Array:
    """C_ij / C_ij of pyccl - 1 of every pair of bins, (pairs, n_ell), the power emulated or CAMB's.

    pyccl runs CAMB for P(k) itself; the rest, from distances and growth to the Limber integral, is its own.
    With alignment the deviation is relative to the geometric mean of the two bins' own spectra, as
    C_ij may pass zero.
    """
    parameters = torch.tensor(cosmology, dtype=torch.float64)
    if power is None:
        log_power = torch.from_numpy(matter_power(cosmology).nonlinear(ELL, Z))
    else:
        log_power = power.nonlinear(parameters)
    ours = _summed(parameters, log_power, sources, photo_z_shift, alignment)
    ours = _interpolated(ours, ell) * (ell + 2) * (ell - 1) / (ell * (ell + 1))
    theirs = _pyccl(cosmology, sources, ell, photo_z_shift, alignment)
    row, column = np.tril_indices(sources.bins)
    own = theirs[row == column]
    scale = theirs if alignment is None else np.sqrt(own[row] * own[column])
    return np.asarray((ours - theirs) / scale)


def _pyccl(
    cosmology: tuple[float, ...],
    sources: Sources,
    ell: Array,
    photo_z_shift: tuple[float, ...] | None,
    alignment: tuple[float, float] | None,
) -> Array:
    import pyccl as ccl

    universe = pyccl_universe(cosmology)
    z = sources.z
    tracers = []
    for number, n_z in enumerate(sources.n_z):
        moved = 0.0 if photo_z_shift is None else photo_z_shift[number]
        shifted = np.interp(z - moved, z, n_z, left=0.0, right=0.0)
        bias = None
        if alignment is not None:
            evolution = ((1 + z) / 1.62) ** alignment[1]
            bias = (z, alignment[0] * 0.0134 / PYCCL_ALIGNMENT * evolution)
        tracers.append(ccl.WeakLensingTracer(universe, dndz=(z, shifted), ia_bias=bias))
    pairs = zip(*np.tril_indices(sources.bins), strict=True)
    return np.array([ccl.angular_cl(universe, tracers[i], tracers[j], ell) for i, j in pairs])


def _ours(
    power: MatterPower,
    sources: Sources,
    photo_z_shift: tuple[float, ...] | None = None,
    alignment: tuple[float, float] | None = None,
) -> Array:
    log_power = torch.from_numpy(power.nonlinear(ELL, Z))
    return _summed(torch.from_numpy(power.cosmology), log_power, sources, photo_z_shift, alignment)


def _summed(
    cosmology: torch.Tensor,
    log_power: torch.Tensor,
    sources: Sources,
    photo_z_shift: tuple[float, ...] | None,
    alignment: tuple[float, float] | None,
) -> Array:
    shift, aligned = (
        None if values is None else torch.tensor(values, dtype=torch.float64)
        for values in (photo_z_shift, alignment)
    )
    return Limber(sources)(cosmology, log_power, photo_z_shift=shift, alignment=aligned).numpy()


def _interpolated(spectra: Array, ell: Array) -> Array:
    """Between the multipoles as the pixelised field has it: a cubic spline of ell^1.5 C in log ell."""
    return np.asarray(CubicSpline(np.log(ELL), spectra * ELL**1.5, axis=-1)(np.log(ell)) * ell**-1.5)


def _quadrature(
    power: MatterPower, sources: Sources, ell: Array, alignment: float, nodes: int = 600
) -> Array:
    """The Limber integral by plain numpy, many nodes and the n(z) on a fine grid."""
    x, weight = np.polynomial.legendre.leggauss(nodes)
    z, weight = 5.0 * (0.5 * (x + 1)) ** 1.5, 0.5 * weight * 7.5 * (0.5 * (x + 1)) ** 0.5
    fine = np.linspace(0.0, 5.0, 10001)
    parameters = Cosmology.of(torch.from_numpy(power.cosmology))
    inverse = 1 / expansion(parameters, torch.from_numpy(fine)).numpy()
    distance = CubicSpline(fine, inverse).antiderivative()
    n = CubicSpline(sources.z, sources.n_z, axis=-1)
    u_fine = distance(fine)
    over_u = np.divide(n(fine), u_fine, out=np.zeros((sources.bins, len(fine))), where=u_fine > 0)
    beyond, over = n.antiderivative(), CubicSpline(fine, over_u, axis=-1).antiderivative()
    u, slope = distance(z), np.interp(z, fine, inverse)
    omega_m = power.cosmology[0] + power.cosmology[1]
    efficiency = (beyond(5.0)[:, None] - beyond(z)) - u * (over(5.0)[:, None] - over(z))
    kernel = 1.5 * omega_m * (1 + z) * u * efficiency
    kernel -= alignment * 0.0134 * omega_m / _ode_growth(power.cosmology, z) * n(z) / slope
    row, column = np.tril_indices(sources.bins)
    products = kernel[row] * kernel[column] * weight * slope / u**2
    return np.asarray(
        (products @ np.exp(power.nonlinear(ell, z))) * (ell * (ell + 1) / (ell + 0.5) ** 2) ** 2
    )


def _ode_growth(cosmology: Array, z: Array) -> Array:
    omega_m, h, w_0 = cosmology[0] + cosmology[1], cosmology[3], cosmology[5]
    radiation = 4.1837e-5 / h**2

    def slope(log_a: float, state: Array) -> list[float]:
        matter, relativistic = omega_m * np.exp(-3 * log_a), radiation * np.exp(-4 * log_a)
        dark = (1 - omega_m - radiation) * np.exp(-3 * (1 + w_0) * log_a)
        total = matter + relativistic + dark
        friction = 2 - 0.5 * (3 * matter + 4 * relativistic + 3 * (1 + w_0) * dark) / total
        return [state[1], 1.5 * matter / total * state[0] - friction * state[1]]

    solution = solve_ivp(slope, (-16.0, 0.0), [1.0, 0.0], rtol=1e-10, atol=1e-14, dense_output=True).sol
    return np.asarray(solution(-np.log1p(z))[0] / solution(0.0)[0])


@pytest.fixture(scope="module")
def powers() -> dict[tuple[float, ...], MatterPower]:
    return {cosmology: matter_power(cosmology) for cosmology in (FIDUCIAL, DILUTE)}


ELL_PYCCL = np.geomspace(20, 3000, 30)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("cosmology", [FIDUCIAL, PHANTOM])
def test_every_pair_of_bins_agrees_with_pyccl(cosmology: tuple[float, ...]) -> None:
    pytest.importorskip("pyccl")
    assert np.abs(deviation_from_pyccl(cosmology, FIVE_BINS, ELL_PYCCL)).max() < 2e-3


@pytest.mark.filterwarnings("ignore")
def test_alignment_and_photometric_shifts_agree_with_pyccl() -> None:
    pytest.importorskip("pyccl")
    deviation = deviation_from_pyccl(
        DILUTE,
        FIVE_BINS,
        ELL_PYCCL,
        photo_z_shift=(0.02, -0.03, 0.05, -0.08, 0.1),
        alignment=(1.3, -1.7),
    )
    assert np.abs(deviation).max() < 2e-3


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("alignment", [None, (0.8, 1.5)])
@pytest.mark.parametrize("cosmology", COSMOLOGIES)
def test_pyccl_at_more_cosmologies(
    cosmology: tuple[float, ...], alignment: tuple[float, float] | None
) -> None:
    pytest.importorskip("pyccl")
    deviation = deviation_from_pyccl(cosmology, FIVE_BINS, ELL_PYCCL, alignment=alignment)
    assert np.abs(deviation).max() < 2e-3


@pytest.mark.parametrize("alignment", [0.0, 1.0])
@pytest.mark.parametrize("cosmology", [FIDUCIAL, DILUTE])
def test_the_grids_are_fine_enough(
    powers: dict[tuple[float, ...], MatterPower], cosmology: tuple[float, ...], alignment: float
) -> None:
    power = powers[cosmology]
    ell = np.concatenate([np.geomspace(20, 6000, 200), np.geomspace(6100, 20000, 20)])
    for sources in (FIVE_BINS, equal_sources(2.0, 0.68, 0.11, 10, 0.03)):
        dense = _quadrature(power, sources, ell, alignment)
        lensing = _quadrature(power, sources, ell, 0.0) if alignment else dense
        row, column = np.tril_indices(sources.bins)
        own = lensing[row == column]
        scale = np.sqrt(own[row] * own[column]) if alignment else dense
        grid = _interpolated(_ours(power, sources, alignment=(alignment, 0.0)), ell)
        error = np.abs((grid - dense) / scale)
        # Low multipoles see the wiggles of the baryons at redshifts below 0.1.
        assert error[:, ell < 100].max() < 3e-4
        assert error[:, ell >= 100].max() < (3e-4 if alignment else 1e-4)


def test_distance_in_einstein_de_sitter() -> None:
    # Without dark energy and all but without radiation (h = 100).
    cosmology = torch.tensor([0.95, 0.05, 0.8, 100.0, 1.0, -1.0], dtype=torch.float64)
    u = Limber(FIVE_BINS).distance(cosmology).numpy()
    np.testing.assert_allclose(u, 2 * (1 - (1 + Z) ** -0.5), rtol=2e-8)
    np.testing.assert_allclose(WEIGHTS.sum(), 5.0, rtol=1e-12)


@pytest.mark.parametrize("shift", [-0.1, -0.013, 0.004, 0.1])
def test_a_shift_moves_the_distribution(powers: dict[tuple[float, ...], MatterPower], shift: float) -> None:
    power = powers[FIDUCIAL]
    z = FIVE_BINS.z
    n_z = CubicSpline(z, FIVE_BINS.n_z, axis=-1)(np.clip(z - shift, 0.0, 5.0)) * (
        (z >= shift) & (z <= 5 + shift)
    )
    moved = Sources(z, n_z / np.trapezoid(n_z, z)[:, None])
    for alignment, tolerance in ((None, 5e-5), ((1.0, 0.5), 5e-4)):
        expected = _ours(power, moved, alignment=alignment)
        got = _ours(power, FIVE_BINS, (shift,) * 5, alignment)
        assert np.abs((got - expected) / expected).max() < tolerance


def test_the_shift_of_a_bin_leaves_the_others() -> None:
    limber = Limber(FIVE_BINS)
    cosmology = torch.tensor(FIDUCIAL, dtype=torch.float64)
    shift = torch.zeros(5, dtype=torch.float64)
    before = limber.kernel(cosmology, photo_z_shift=shift)
    shift[2] = 0.05
    after = limber.kernel(cosmology, photo_z_shift=shift)
    changed = (after - before).abs().amax(-1) > 0
    assert changed.tolist() == [False, False, True, False, False]


@pytest.mark.parametrize("shift", [1.01 * MAX_PHOTO_Z_SHIFT, -0.5, float("nan")])
def test_a_shift_out_of_range_is_refused(shift: float) -> None:
    values = torch.tensor([0.0, 0.0, shift, 0.0, 0.0], dtype=torch.float64)
    with pytest.raises(SimulationError, match="photo_z_shift"):
        Limber(FIVE_BINS).kernel(torch.tensor(FIDUCIAL, dtype=torch.float64), photo_z_shift=values)


def test_gradients_are_those_of_finite_differences(
    powers: dict[tuple[float, ...], MatterPower],
) -> None:
    limber = Limber(equal_sources(2.0, 0.68, 0.11, 2, 0.05))
    log_power = torch.from_numpy(np.array([powers[FIDUCIAL].nonlinear(ELL, Z)] * 2))

    def spectra(cosmology: torch.Tensor, shift: torch.Tensor, aligned: torch.Tensor) -> torch.Tensor:
        return 1e9 * limber(cosmology, log_power, photo_z_shift=shift, alignment=aligned)[..., 20:40:10]

    inputs = (
        torch.tensor([FIDUCIAL, DENSE], dtype=torch.float64, requires_grad=True),
        torch.tensor([[0.02, -0.03], [0.0, 0.09]], dtype=torch.float64, requires_grad=True),
        torch.tensor([[0.7, 1.2], [-0.5, 0.0]], dtype=torch.float64, requires_grad=True),
    )
    assert torch.autograd.gradcheck(spectra, inputs, eps=1e-5, atol=1e-5, rtol=1e-5)


def test_gradient_in_the_matter_power(powers: dict[tuple[float, ...], MatterPower]) -> None:
    limber = Limber(FIVE_BINS)
    cosmology = torch.tensor(FIDUCIAL, dtype=torch.float64)
    log_power = torch.from_numpy(powers[FIDUCIAL].nonlinear(ELL, Z)).requires_grad_()
    total = limber(cosmology, log_power).sum()
    (gradient,) = torch.autograd.grad(total, log_power)
    # The spectra are linear in the power, so this is Euler's theorem.
    torch.testing.assert_close(gradient.sum(), total.detach(), rtol=1e-12, atol=0.0)


def test_a_cosmology_has_the_same_spectra_in_any_batch(
    powers: dict[tuple[float, ...], MatterPower],
) -> None:
    limber = Limber(FIVE_BINS)
    cosmology = torch.tensor([FIDUCIAL, DILUTE] * 20, dtype=torch.float64)
    log_power = torch.from_numpy(
        np.array([powers[FIDUCIAL].nonlinear(ELL, Z), powers[DILUTE].nonlinear(ELL, Z)])
    )
    log_power = log_power.repeat(20, 1, 1)
    shift = torch.linspace(-0.05, 0.05, 200, dtype=torch.float64).reshape(40, 5)
    aligned = torch.linspace(-1.0, 1.0, 80, dtype=torch.float64).reshape(40, 2)
    whole = limber(cosmology, log_power, photo_z_shift=shift, alignment=aligned)
    assert whole.shape == (40, 15, len(ELL))
    for count in (1, 3, 7, 16):
        part = slice(0, count)
        alone = limber(cosmology[part], log_power[part], photo_z_shift=shift[part], alignment=aligned[part])
        torch.testing.assert_close(alone, whole[part], rtol=1e-12, atol=0.0)
    single = limber(cosmology[5], log_power[5], photo_z_shift=shift[5], alignment=aligned[5])
    torch.testing.assert_close(single, whole[5], rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("cosmology", [*COSMOLOGIES, (0.12, 0.03, 0.6, 0.6, 0.88, -0.4)])
def test_growth_solves_its_equation(cosmology: tuple[float, ...]) -> None:
    z = np.linspace(0.0, 5.0, 30)
    ours = growth(Cosmology.of(torch.tensor(cosmology, dtype=torch.float64)), torch.from_numpy(z)).numpy()
    np.testing.assert_allclose(ours, _ode_growth(np.array(cosmology), z), rtol=3e-5)


def test_growth_is_that_of_the_linear_power(powers: dict[tuple[float, ...], MatterPower]) -> None:
    for power in powers.values():
        parameters = Cosmology.of(torch.from_numpy(power.cosmology))
        ours = growth(parameters, torch.from_numpy(power.z)).numpy()
        for k in (0.05, 0.2, 1.0):
            column = np.abs(power.k - k).argmin()
            camb = np.exp(0.5 * (power.log_linear[:, column] - power.log_linear[0, column]))
            np.testing.assert_allclose(ours, camb, rtol=1e-3)


def test_growth_has_gradients() -> None:
    z = torch.linspace(0.0, 5.0, 4, dtype=torch.float64)
    cosmology = torch.tensor([FIDUCIAL, DENSE], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda values: growth(Cosmology.of(values), z), cosmology)
