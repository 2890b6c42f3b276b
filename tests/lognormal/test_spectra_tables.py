"""Spectra of tables and source planes, whatever their features: against brute force and pyccl."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from lognormal_cases import pyccl_universe
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.interpolate import CubicSpline

from sbikit import OptionError, SimulationError
from sbikit_lognormal.build.matter import MatterPower, matter_power
from sbikit_lognormal.cosmology import Cosmology, growth
from sbikit_lognormal.options import LogNormalOptions, SourceOptions
from sbikit_lognormal.simulator import LogNormal
from sbikit_lognormal.spectra import (
    ELL,
    Limber,
    Sources,
    Z,
    binned_sources,
    equal_sources,
    make_sources,
    read_sources,
    source_planes,
)

Array = NDArray[np.float64]

FIDUCIAL = (0.2664, 0.0492, 0.831, 0.6727, 0.9645, -1.0)
MULTIPOLES = np.geomspace(30, 5000, 25)


@pytest.fixture(scope="module")
def power() -> MatterPower:
    return matter_power(FIDUCIAL)


def expansion(z: Array) -> Array:
    """E(z) by hand."""
    omega_c, omega_b, _, h, _, w_0 = FIDUCIAL
    omega_m, radiation = omega_c + omega_b, 4.1837e-5 / h**2
    dark = (1 - omega_m - radiation) * (1 + z) ** (3 * (1 + w_0))
    return np.sqrt(omega_m * (1 + z) ** 3 + radiation * (1 + z) ** 4 + dark)


def distances() -> CubicSpline:
    """u of z by hand."""
    z = np.linspace(0.0, 5.2, 4001)
    return CubicSpline(z, 1 / expansion(z)).antiderivative()


def brute(power: MatterPower, knots: Array, n_z: Array, alignment: float = 0.0) -> Array:
    """C_ij at `MULTIPOLES` of distributions straight between knots, by many points in every cell.

    Args:
        power: the matter power.
        knots: redshifts (n,), ascending, two of them at a step.
        n_z: (bins, n), of any normalisation.
        alignment: A_IA.
    """
    u_of = distances()
    middle = (np.arange(200) + 0.5) / 200
    low, width = knots[:-1, None], np.diff(knots)[:, None]
    at = (low + width * middle).ravel()
    mass = np.repeat(width / 200, 200, axis=1).ravel()
    density = (n_z[:, :-1, None] * (1 - middle) + n_z[:, 1:, None] * middle).reshape(len(n_z), -1)
    density = density / (density * mass).sum(-1, keepdims=True)
    u_sources = u_of(at)

    bounds = np.unique(np.concatenate([np.geomspace(2e-3, 5.0, 300), knots[knots > 2e-3]]))
    points, weights = np.polynomial.legendre.leggauss(6)
    half = 0.5 * np.diff(bounds)[:, None]
    z, weight = (bounds[:-1, None] + half * (1 + points)).ravel(), (half * weights).ravel()
    u, slope, omega_m = u_of(z), 1 / expansion(z), FIDUCIAL[0] + FIDUCIAL[1]
    # Sums over sources beyond each z from cumulative sums, the part of a source's own cell left to the cells.
    order = np.argsort(at, kind="stable")
    after = np.searchsorted(at[order], z)
    kernels = []
    for row in density * mass:
        beyond = np.append(np.cumsum(row[order][::-1])[::-1], 0.0)[after]
        inverse = np.append(np.cumsum((row / u_sources)[order][::-1])[::-1], 0.0)[after]
        kernels.append(1.5 * omega_m * (1 + z) * u * (beyond - u * inverse))
    kernel = np.array(kernels)
    if alignment:
        cell = np.clip(np.searchsorted(knots, z, side="right") - 1, 0, len(knots) - 2)
        step = knots[cell + 1] - knots[cell]
        along = np.where(step > 0, (z - knots[cell]) / np.where(step > 0, step, 1), 0.0)
        n = n_z[:, cell] * (1 - along) + n_z[:, cell + 1] * along
        n = n * ((z > knots[0]) & (z < knots[-1])) / np.trapezoid(n_z, knots)[:, None]
        cosmology = Cosmology.of(torch.tensor(FIDUCIAL, dtype=torch.float64))
        grown = growth(cosmology, torch.from_numpy(z)).numpy()
        kernel = kernel - alignment * 0.0134 * omega_m / grown * n / slope
    row, column = np.tril_indices(len(n_z))
    products = kernel[row] * kernel[column] * weight * slope / u**2
    factor = (MULTIPOLES * (MULTIPOLES + 1) / (MULTIPOLES + 0.5) ** 2) ** 2
    return np.asarray(products @ np.exp(power.nonlinear(MULTIPOLES, z)) * factor)


def ours(power: MatterPower, sources: Sources, alignment: float = 0.0, shift: float | None = None) -> Array:
    """The same by the Limber sum of the simulator."""
    cosmology = torch.tensor(FIDUCIAL, dtype=torch.float64)
    aligned = torch.tensor([alignment, 0.0], dtype=torch.float64) if alignment else None
    moved = None if shift is None else torch.full((sources.bins,), shift, dtype=torch.float64)
    log_power = torch.from_numpy(power.nonlinear(ELL, Z))
    spectra = Limber(sources)(cosmology, log_power, alignment=aligned, photo_z_shift=moved).numpy()
    smooth = CubicSpline(np.log(ELL), spectra * ELL**1.5, axis=-1)
    return np.asarray(smooth(np.log(MULTIPOLES)) * MULTIPOLES**-1.5)


def largest(got: Array, expected: Array) -> float:
    """The largest difference relative to the geometric mean of the bins' own spectra."""
    bins = int((8 * len(expected) + 1) ** 0.5 / 2)
    row, column = np.tril_indices(bins)
    own = expected[row == column]
    return float(np.abs((got - expected) / np.sqrt(own[row] * own[column])).max())


def written(folder: Path, z: Array, n_z: Array) -> Path:
    """A table as text."""
    path = folder / "n.txt"
    np.savetxt(path, np.vstack([z, n_z]).T)
    return path


SPIKE = (np.array([0.3, 0.7021, 0.7022, 0.7023, 1.1]), np.array([[0.0, 0.5, 3000.0, 0.5, 0.0]]))
STEPS = np.arange(0.0, 2.01, 0.05)


def rough(bins: int) -> Array:
    """n(z) at `STEPS` that jumps from row to row, (bins, n)."""
    random = np.random.default_rng(4).random((bins, len(STEPS)))
    centres = np.linspace(0.4, 1.2, bins)[:, None]
    return np.asarray(random * np.exp(-(((STEPS - centres) / 0.25) ** 2)) * (STEPS < 1.9))


@pytest.mark.parametrize("alignment", [0.0, 1.0])
def test_points_between_which_n_is_straight(power: MatterPower, tmp_path: Path, alignment: float) -> None:
    sources = read_sources(written(tmp_path, STEPS, rough(3)))
    assert largest(ours(power, sources, alignment), brute(power, STEPS, rough(3), alignment)) < 5e-4


@pytest.mark.parametrize("alignment", [0.0, 1.0])
@pytest.mark.parametrize("rows", ["lower-edges", "centres"])
def test_histograms(power: MatterPower, tmp_path: Path, rows: str, alignment: float) -> None:
    n_z = rough(3)
    edges = np.append(STEPS, STEPS[-1] + 0.05)
    z = STEPS if rows == "lower-edges" else STEPS + 0.025
    sources = read_sources(written(tmp_path, z, n_z), rows)  # type: ignore[arg-type]
    expected = brute(power, np.repeat(edges, 2)[1:-1], np.repeat(n_z, 2, axis=-1), alignment)
    assert largest(ours(power, sources, alignment), expected) < 5e-4
    np.testing.assert_allclose(sources.mean, (n_z @ (STEPS + 0.025)) / n_z.sum(-1), rtol=1e-12)


@pytest.mark.parametrize("alignment", [0.0, 1.0])
def test_a_spike_between_the_points_of_every_grid(
    power: MatterPower, tmp_path: Path, alignment: float
) -> None:
    # Alignments take the power at the spike's redshift alone, to where it is carried from its neighbours'.
    tolerance = 2e-3 if alignment else 5e-4
    sources = read_sources(written(tmp_path, *SPIKE))
    assert largest(ours(power, sources, alignment), brute(power, *SPIKE, alignment)) < tolerance
    z, n_z = SPIKE
    moment = sum(quad(lambda x: x * np.interp(x, z, n_z[0]), low, high)[0] for low, high in pairwise(z))
    np.testing.assert_allclose(sources.mean, moment / np.trapezoid(n_z[0], z), rtol=1e-10)


def test_where_rows_are_added_nothing_changes(power: MatterPower, tmp_path: Path) -> None:
    fine = np.unique(np.concatenate([STEPS, np.linspace(0.0, 2.0, 20_001)]))
    n_z = np.array([np.interp(fine, STEPS, row) for row in rough(2)])
    plain = ours(power, read_sources(written(tmp_path, STEPS, rough(2))), 1.0)
    assert largest(ours(power, read_sources(written(tmp_path, fine, n_z)), 1.0), plain) < 2e-5


PLANES = (0.1, 0.333, 1.0, 3.1)


def analytic_planes(power: MatterPower) -> Array:
    """C_ij of `PLANES` from their kernels 3/2 Omega_m (1 + z) u (1 - u / u_s)."""
    u_of, omega_m = distances(), FIDUCIAL[0] + FIDUCIAL[1]
    points, weights = np.polynomial.legendre.leggauss(12)
    bounds = np.unique(np.concatenate([np.geomspace(1e-3, 3.1, 200), PLANES]))
    half = 0.5 * np.diff(bounds)[:, None]
    z, weight = (bounds[:-1, None] + half * (1 + points)).ravel(), (half * weights).ravel()
    u = u_of(z)
    behind = np.clip(1 - u / u_of(np.array(PLANES))[:, None], 0.0, None)
    kernel = 1.5 * omega_m * (1 + z) * u * behind
    row, column = np.tril_indices(len(PLANES))
    products = kernel[row] * kernel[column] * weight / expansion(z) / u**2
    factor = (MULTIPOLES * (MULTIPOLES + 1) / (MULTIPOLES + 0.5) ** 2) ** 2
    return np.asarray(products @ np.exp(power.nonlinear(MULTIPOLES, z)) * factor)


def test_source_planes(power: MatterPower, tmp_path: Path) -> None:
    # The power of the nearest plane is known at few redshifts, the wiggles of the baryons not resolved.
    error = np.abs(ours(power, source_planes(PLANES)) / analytic_planes(power) - 1)
    assert error[0].max() < 5e-3
    assert error[1:].max() < 1e-3
    np.testing.assert_allclose(source_planes(PLANES).mean, PLANES, rtol=1e-12)
    alone = ours(power, source_planes((1.0,)))
    np.testing.assert_allclose(alone[0], analytic_planes(power)[5], rtol=2e-4)
    (tmp_path / "plane.txt").write_text("1.0 17.0\n")
    np.testing.assert_array_equal(ours(power, read_sources(tmp_path / "plane.txt")), alone)


@pytest.mark.filterwarnings("ignore")
def test_source_planes_agree_with_pyccl() -> None:
    ccl = pytest.importorskip("pyccl")
    universe = pyccl_universe(FIDUCIAL)
    tracers = []
    for plane in (0.5, 1.0, 2.0):
        z = np.linspace(plane - 0.002, plane + 0.002, 201)
        narrow = np.exp(-0.5 * ((z - plane) / 0.0004) ** 2)
        tracers.append(ccl.WeakLensingTracer(universe, dndz=(z, narrow), n_samples=4000))
    pairs = zip(*np.tril_indices(3), strict=True)
    theirs = np.array([ccl.angular_cl(universe, tracers[i], tracers[j], MULTIPOLES) for i, j in pairs])
    mine = ours(matter_power(FIDUCIAL), source_planes((0.5, 1.0, 2.0)))
    mine = mine * (MULTIPOLES + 2) * (MULTIPOLES - 1) / (MULTIPOLES * (MULTIPOLES + 1))
    assert np.abs(mine / theirs - 1).max() < 2e-3


def test_a_shifted_table_is_the_table_shifted(power: MatterPower) -> None:
    # Moved far enough from redshift 0 that nothing is lost there.
    z, n_z = STEPS + 0.2, rough(2)
    for alignment, tolerance in ((0.0, 5e-4), (1.0, 5e-3)):
        sources = Sources(z, n_z / np.trapezoid(n_z, z)[:, None], "linear")
        for shift in (-0.08, 0.013, 0.06):
            expected = brute(power, z + shift, n_z, alignment)
            assert largest(ours(power, sources, alignment, shift), expected) < tolerance


def test_shifted_planes_are_right_or_refused(power: MatterPower) -> None:
    far = source_planes((1.0,))
    cosmology = torch.tensor(FIDUCIAL, dtype=torch.float64)
    log_power = torch.from_numpy(power.nonlinear(ELL, Z))
    shift = torch.tensor([0.04], dtype=torch.float64)
    moved = Limber(far, aligned=False)(cosmology, log_power, photo_z_shift=shift)
    expected = Limber(source_planes((1.04,)))(cosmology, log_power)
    torch.testing.assert_close(moved, expected, rtol=2e-3, atol=0.0)
    with pytest.raises(OptionError, match="sharp"):
        Limber(far, aligned=True)(cosmology, log_power, photo_z_shift=shift)
    spike = Sources(SPIKE[0], SPIKE[1] / np.trapezoid(SPIKE[1], SPIKE[0]), "linear")
    with pytest.raises(OptionError, match="sharp"):
        Limber(spike, aligned=True)(cosmology, log_power, photo_z_shift=shift)
    with pytest.raises((OptionError, SimulationError)) as lost:
        Limber(source_planes((0.06,)), aligned=False)(cosmology, log_power, photo_z_shift=0 * shift)
    assert lost.value.fix


def test_alignments_of_narrow_bins_are_not_read_at_points(power: MatterPower) -> None:
    sources = binned_sources(2.0, 0.68, 0.11, (0.9, 0.92, 0.94), 0.005)
    assert largest(ours(power, sources, 1.0), brute(power, sources.z, sources.n_z, 1.0)) < 2e-3


def test_smooth_models_are_summed_where_the_power_is_known() -> None:
    # What was right stays as it was: the redshifts of the sum are those of the matter power.
    for sources in (equal_sources(2.0, 0.68, 0.11, 1, 0.05), equal_sources(2.0, 0.68, 0.11, 5, 0.05)):
        assert Limber(sources).z.tolist() == Z.tolist()


# --- what is no table ---------------------------------------------------------------------------

GOOD = np.linspace(0.1, 1.0, 10)


@pytest.mark.parametrize(
    ("z", "n_z", "rows", "found"),
    [
        ([0.2, 0.4, 0.3], [1, 1, 1], "points", "0.3 after 0.4 in row 3"),
        ([0.2, 0.3, 0.3], [1, 1, 1], "points", "0.3 after 0.3 in row 3"),
        ([0.2, 0.3, 0.5], [1, 1, 1], "centres", "even distances"),
        ([0.02, 0.12, 0.22], [1, 1, 1], "centres", "between 0 and 5"),
        ([4.8, 4.9, 5.0], [1, 1, 1], "lower-edges", "between 0 and 5"),
        ([4.8, 4.9, 5.1], [0, 1, 0], "points", "between 0 and 5"),
        ([0.7], [1], "lower-edges", "two rows"),
        ([0.7], [0], "points", "no galaxies"),
        ([0.01], [1], "points", "0.05 to 4.9"),
        ([0.2, 0.3], [1, np.inf], "points", "finite"),
        ([0.2, 0.3], [1, -1e-9], "points", "negative"),
        ([0.2, 0.3], [0, 0], "points", "no galaxies"),
    ],
)
def test_a_bad_table_says_what_is_bad(
    z: list[float], n_z: list[float], rows: str, found: str, tmp_path: Path
) -> None:
    with pytest.raises(OptionError) as refused:
        read_sources(written(tmp_path, np.array(z), np.array(n_z, dtype=float)), rows)  # type: ignore[arg-type]
    assert found in str(refused.value)
    assert refused.value.fix


def test_empty_tails_may_lie_anywhere(power: MatterPower, tmp_path: Path) -> None:
    z = np.concatenate([[-0.2, -0.1], GOOD, [1.1, 6.0, 7.0]])
    n_z = np.concatenate([[0.0, 0.0, 0.0], np.ones(8), [0.0] * 4])[None]
    plain = read_sources(written(tmp_path, GOOD, n_z[:, 2:12]))
    tails = read_sources(written(tmp_path, z, n_z))
    np.testing.assert_array_equal(tails.z, plain.z)
    np.testing.assert_array_equal(tails.n_z, plain.n_z)
    for scale in (1e300, 1e-300):
        scaled = read_sources(written(tmp_path, GOOD, scale * n_z[:, 2:12]))
        np.testing.assert_allclose(scaled.n_z, plain.n_z, rtol=1e-12)


@pytest.mark.parametrize(
    "content", [b"", b"\n# only a comment\n", b"0.5\n0.6\n", b"\xff\xfe\x00", b"1 2\n3\n"]
)
@pytest.mark.parametrize("name", ["n.txt", "n.npz"])
def test_a_broken_file_is_refused(content: bytes, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(OptionError):
        read_sources(tmp_path / name)


def test_complex_numbers_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "n.npz", z=GOOD, n_z=np.ones(10) + 1j)
    with pytest.raises(OptionError, match="real numbers"):
        read_sources(tmp_path / "n.npz")


# --- in the simulator ---------------------------------------------------------------------------


def test_a_plane_and_its_narrow_table_are_one_simulator(tmp_path: Path) -> None:
    path = written(tmp_path, np.array([0.9995, 1.0, 1.0005]), np.array([[0.0, 1.0, 0.0]]))
    plane = LogNormal(LogNormalOptions(size=8, sources={"planes": (1.0,)}))
    table = LogNormal(LogNormalOptions(size=8, sources={"table": path}))
    theta = torch.tensor([[0.3, 0.8, -1.0], [0.25, 0.7, -0.7]])
    for mine, other in zip(plane.spectra(theta), table.spectra(theta), strict=True):
        torch.testing.assert_close(mine, other, rtol=5e-4, atol=0.0)


def test_alignments_of_planes_are_refused() -> None:
    with pytest.raises(OptionError, match="one redshift") as refused:
        LogNormal(LogNormalOptions(size=8, sources={"planes": (0.5, 1.0)}, a_ia=1.0))
    assert refused.value.fix


@pytest.mark.parametrize(
    "options",
    [
        {"planes": (0.5,), "bins": 2},
        {"planes": (0.5,), "rows": "centres"},
        {"rows": "centres"},
        {"bins": 3, "rows": "centres"},
        {"edges": (0.1, 0.5), "rows": "lower-edges"},
    ],
)
def test_options_without_effect_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(OptionError, match="contradict"):
        make_sources(SourceOptions(**options))


def test_the_report_is_told_the_mean_redshift_of_what_is_used(tmp_path: Path) -> None:
    # A triangle has the mean of its corners; a histogram that of its centres.
    triangle = written(tmp_path, np.array([0.2, 0.3, 1.0]), np.array([[0.0, 1.0, 0.0]]))
    told = LogNormal(LogNormalOptions(size=8, sources={"table": triangle})).facts()
    assert told["Mean redshift of the sources"] == "0.5000"
    steps = LogNormal(LogNormalOptions(size=8, sources={"table": triangle, "rows": "lower-edges"})).facts()
    assert steps["Mean redshift of the sources"] == "0.6500"
    planes = LogNormal(LogNormalOptions(size=8, sources={"planes": (0.5, 1.25)}, photo_z_shift=0.01)).facts()
    assert planes["Mean redshift of the sources, before photo_z_shift"] == "bin 1: 0.5000, bin 2: 1.2500"
