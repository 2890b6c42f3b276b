"""Source distributions against GLASS, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from sbikit import OptionError
from sbikit_lognormal.options import SourceOptions
from sbikit_lognormal.spectra import Sources, binned_sources, equal_sources, make_sources, read_sources

LSST_Y10 = (2.0, 0.68, 0.11)
LSST_Y1 = (2.0, 0.78, 0.13)


@pytest.mark.parametrize("smail", [LSST_Y10, LSST_Y1])
@pytest.mark.parametrize("bins", [1, 2, 5])
def test_bins_of_equal_number_agree_with_glass(smail: tuple[float, float, float], bins: int) -> None:
    glass = pytest.importorskip("glass")
    alpha, beta, z0 = smail
    ours = equal_sources(alpha, beta, z0, bins, 0.05)
    total = glass.smail_nz(ours.z, z0 * (alpha / beta) ** (1 / beta), alpha, beta)
    theirs = np.atleast_2d(total)
    if bins > 1:
        edges = [(float(low), float(high)) for low, high in glass.equal_dens_zbins(ours.z, total, bins)]
        theirs = np.asarray(glass.tomo_nz_gausserr(ours.z, total, 0.05, edges))
    theirs = theirs / np.trapezoid(theirs, ours.z)[:, None]
    np.testing.assert_allclose(ours.n_z, theirs, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(ours.mean, np.trapezoid(theirs * ours.z, ours.z), rtol=1e-9)


def test_bins_with_given_edges_agree_with_glass() -> None:
    glass = pytest.importorskip("glass")
    edges = (0.1, 0.3, 0.5, 0.7, 0.9, 1.2)
    ours = binned_sources(1.9, 1.5, 0.6, edges, 0.06)
    total = glass.smail_nz(ours.z, 0.6 * (1.9 / 1.5) ** (1 / 1.5), 1.9, 1.5)
    theirs = np.asarray(glass.tomo_nz_gausserr(ours.z, total, 0.06, list(pairwise(edges))))
    theirs = theirs / np.trapezoid(theirs, ours.z)[:, None]
    np.testing.assert_allclose(ours.n_z, theirs, rtol=1e-9, atol=1e-12)


def test_options_say_which_distributions() -> None:
    edges = (0.2, 0.6, 1.2)
    for options, expected in (
        (SourceOptions(), equal_sources(*LSST_Y10, 1, 0.05)),
        (SourceOptions(bins=5), equal_sources(*LSST_Y10, 5, 0.05)),
        (SourceOptions(edges=edges, photo_z=0.03), binned_sources(*LSST_Y10, edges, 0.03)),
    ):
        np.testing.assert_array_equal(make_sources(options).n_z, expected.n_z)
    wide, narrow = make_sources(SourceOptions(bins=5)), make_sources(SourceOptions(bins=5, photo_z=0.04))
    assert np.abs(wide.n_z - narrow.n_z).max() > 0.01


def test_tables_are_read(tmp_path: Path) -> None:
    made = equal_sources(*LSST_Y10, 3, 0.05)
    np.savez(tmp_path / "n.npz", z=made.z, n_z=7.0 * made.n_z)
    np.savetxt(tmp_path / "n.txt", np.vstack([made.z, made.n_z]).T, header="z n1 n2 n3")
    for name in ("n.npz", "n.txt"):
        read = make_sources(SourceOptions(table=tmp_path / name))
        np.testing.assert_allclose(read.n_z, made.n_z, rtol=1e-9, atol=1e-15)


def test_a_table_is_linear_between_its_redshifts_and_nothing_beyond(tmp_path: Path) -> None:
    np.savez(tmp_path / "triangle.npz", z=np.array([0.5, 1.0, 1.5]), n_z=np.array([0.0, 3.0, 0.0]))
    read = read_sources(tmp_path / "triangle.npz")
    np.testing.assert_allclose(read.n_z[0], np.clip(2.0 - 4.0 * np.abs(read.z - 1.0), 0.0, None), atol=1e-12)
    np.testing.assert_allclose(read.mean, [1.0], rtol=1e-12)


GOOD_Z = np.linspace(0.0, 2.0, 11)


@pytest.mark.parametrize(
    ("z", "n_z", "found"),
    [
        (GOOD_Z[::-1], np.ones(11), "ascending"),
        (GOOD_Z - 0.5, np.ones(11), "between 0 and 5"),
        (GOOD_Z + 4.0, np.ones(11), "between 0 and 5"),
        (GOOD_Z, -np.ones(11), "negative"),
        (GOOD_Z, np.full(11, np.nan), "finite"),
        (GOOD_Z, np.ones((2, 10)), "n_z"),
        (GOOD_Z, np.zeros((2, 11)), "no galaxies"),
    ],
)
def test_a_bad_table_is_refused(z: np.ndarray, n_z: np.ndarray, found: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "n.npz", z=z, n_z=n_z)
    with pytest.raises(OptionError) as refused:
        read_sources(tmp_path / "n.npz")
    assert found in str(refused.value)
    assert refused.value.fix


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("redshift galaxies\nlow many\n")
    np.savez(tmp_path / "other.npz", redshift=GOOD_Z)
    for name in ("words.txt", "other.npz", "absent.npz"):
        with pytest.raises(OptionError, match="cannot be read"):
            read_sources(tmp_path / name)


def test_edges_that_are_none_are_refused() -> None:
    for edges in ((0.5,), (0.9, 0.5), (0.5, 0.5)):
        with pytest.raises(OptionError, match="edges"):
            binned_sources(*LSST_Y10, edges, 0.05)
    with pytest.raises(OptionError, match="no galaxies"):
        binned_sources(5.0, 5.0, 0.02, (0.1, 4.0, 4.5), 0.005)
    with pytest.raises(ValidationError):
        SourceOptions(edges=(0.1, 7.0))


@pytest.mark.parametrize(
    "options",
    [
        SourceOptions(table=Path("n.npz"), alpha=1.5),
        SourceOptions(edges=(0.1, 0.5), bins=3),
        SourceOptions(photo_z=0.03),
    ],
)
def test_options_without_effect_are_refused(options: SourceOptions) -> None:
    with pytest.raises(OptionError, match="contradict"):
        make_sources(options)


def test_neither_glass_nor_healpy_nor_camb_is_needed() -> None:
    code = (
        "import sys; from sbikit_lognormal.spectra import Hilbert2011, Limber, equal_sources\n"
        "Hilbert2011(Limber(equal_sources(2.0, 0.68, 0.11, 2, 0.05)))\n"
        "print([name for name in ('glass', 'healpy', 'camb') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_moments_of_a_known_distribution() -> None:
    # beta = 1 is a Gamma law of shape alpha + 1: mean (alpha + 1) z0.
    np.testing.assert_allclose(equal_sources(2.0, 1.0, 0.2, 1, 0.05).mean, [0.6], rtol=1e-6)
    z = np.linspace(0.0, 5.0, 11)
    assert Sources(z, np.full((1, 11), 0.2)).bins == 1
