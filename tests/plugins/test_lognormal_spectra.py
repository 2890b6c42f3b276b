"""Spectra against pyccl, distances against Einstein-de Sitter, the shift against GLASS."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sbikit_lognormal.runs import BOX, from_unit, run_all
from sbikit_lognormal.spectra import Setting, comoving_distance, shift, source_distribution, spectra


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("omega_m", "s8", "w0"), [(0.3, 0.8, -1.0), (0.4, 0.95, -1.6)])
def test_spectrum_agrees_with_pyccl(omega_m: float, s8: float, w0: float) -> None:
    # pyccl runs CAMB for P(k) itself; normalisation, distances, kernel and Limber integral are its own.
    ccl = pytest.importorskip("pyccl")
    setting = Setting()
    z, n_z = source_distribution(setting)
    cosmology = ccl.Cosmology(
        Omega_c=omega_m - setting.omega_b,
        Omega_b=setting.omega_b,
        h=setting.h,
        n_s=setting.n_s,
        sigma8=s8 / np.sqrt(omega_m / 0.3),
        w0=w0,
        transfer_function="boltzmann_camb",
        matter_power_spectrum="camb",
        extra_parameters={
            "camb": {
                "halofit_version": "mead2020",
                "dark_energy_model": "ppf",
                "kmax": 20.0,
                "AccuracyTarget": 1,
            }
        },
    )
    tracer = ccl.WeakLensingTracer(cosmology, dndz=(z, n_z[0]))
    ell = np.geomspace(20, 3000, 30)
    shear_over_convergence = (ell + 2) * (ell - 1) / (ell * (ell + 1))
    ours = spectra(setting, omega_m, s8, w0, ell)[0, 0] * shear_over_convergence
    np.testing.assert_allclose(ours, ccl.angular_cl(cosmology, tracer, tracer, ell), rtol=0.002)


def test_two_bins_have_equal_numbers_and_a_correlated_spectrum() -> None:
    setting = Setting(bins=2)
    z, n_z = source_distribution(setting)
    np.testing.assert_allclose(np.trapezoid(n_z, z), 1.0, rtol=1e-12)
    _, total = source_distribution(Setting())
    # Half of each: the whole is their mean, up to the photometric scatter through the outer edges.
    np.testing.assert_allclose(np.trapezoid(np.abs(n_z.mean(0) - total[0]), z), 0.0, atol=0.02)
    c = spectra(setting, 0.3, 0.8, -1.0, np.array([100.0, 1000.0]))
    assert c.shape == (2, 2, 2)
    correlation = c[0, 1] / np.sqrt(c[0, 0] * c[1, 1])
    np.testing.assert_array_equal(c[0, 1], c[1, 0])
    assert ((correlation > 0.5) & (correlation < 1.0)).all()
    assert (c[0, 0] < c[1, 1]).all()


def test_distance_in_einstein_de_sitter() -> None:
    z = np.linspace(0.0, 5.0, 501)
    np.testing.assert_allclose(
        comoving_distance(z, 1.0, -1.0), 2 * (1 - (1 + z) ** -0.5), rtol=1e-6, atol=1e-12
    )


def test_shift_is_that_of_hilbert_in_the_millennium_cosmology_and_grows_with_matter() -> None:
    glass = pytest.importorskip("glass")
    z, n_z = source_distribution(Setting())
    mean = float(np.trapezoid(n_z[0] * z, z))
    np.testing.assert_allclose(
        shift(Setting(), 0.25, -1.0)[0], glass.lognormal_shift_hilbert2011(mean), rtol=1e-12
    )
    assert shift(Setting(), 0.4, -1.0)[0] > 1.2 * shift(Setting(), 0.25, -1.0)[0]


def test_design_fills_the_box() -> None:
    corners = from_unit(np.array([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]))
    np.testing.assert_allclose(corners.T, list(BOX.values()), rtol=1e-12)


def test_runs_are_kept_and_not_repeated(tmp_path: Path) -> None:
    cosmologies = from_unit(np.array([[0.2, 0.5, 0.5], [0.6, 0.5, 0.5]]))
    done: list[int] = []
    first = run_all(Setting(), cosmologies, tmp_path, processes=2, progress=done.append)
    assert sum(done) == 2
    np.testing.assert_allclose(
        first[1][1], shift(Setting(), cosmologies[1, 0], cosmologies[1, 2]), rtol=1e-12
    )

    stamps = {file: file.stat().st_mtime_ns for file in tmp_path.glob("run_*.npz")}
    (tmp_path / "run_0001.npz").unlink()
    second = run_all(Setting(), cosmologies, tmp_path, processes=1, progress=done.append)
    np.testing.assert_allclose(second[0], first[0], rtol=1e-6)
    kept = tmp_path / "run_0000.npz"
    assert kept.stat().st_mtime_ns == stamps[kept]

    with pytest.raises(RuntimeError, match="another design"):
        run_all(Setting(z0=0.2), cosmologies, tmp_path, processes=1, progress=done.append)


def test_failure_of_a_run_is_told(tmp_path: Path) -> None:
    impossible = np.array([[0.3, 0.0, -1.0]])  # no fluctuations
    with pytest.raises(RuntimeError, match="a CAMB run failed"):
        run_all(Setting(), impossible, tmp_path, processes=1, progress=lambda _: None)
