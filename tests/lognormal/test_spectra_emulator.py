"""The emulator against CAMB at cosmologies it was not fitted to, and how its table is kept.

`tests/reference/lognormal_held_out.npz` was made by
`python -m sbikit_lognormal.build held-out tests/reference/lognormal_held_out.npz`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from typer.testing import CliRunner

import sbikit_lognormal.build.__main__ as command
import sbikit_lognormal.build.fitting as fitting_module
import sbikit_lognormal.spectra.table as table_module
from sbikit import CheckpointError
from sbikit_lognormal.build.design import HELD_OUT_RADIUS, design, held_out
from sbikit_lognormal.build.fitting import fit_table
from sbikit_lognormal.build.grids import Grids
from sbikit_lognormal.build.held_out import PAPER_SOURCES
from sbikit_lognormal.build.matter import matter_power
from sbikit_lognormal.build.runs import run_all
from sbikit_lognormal.cosmology import COVERED, LEAST_OMEGA_C, RADIUS
from sbikit_lognormal.options import LOG_T_AGN
from sbikit_lognormal.spectra import (
    BUILD,
    ELL,
    TABLE,
    Emulator,
    Limber,
    MatterTable,
    Z,
    inputs,
    quadratic,
    shipped_table,
)

HELD_OUT = Path(__file__).parents[1] / "reference" / "lognormal_held_out.npz"
FIDUCIAL = torch.tensor([0.2664, 0.0492, 0.831, 0.6727, 0.9645, -1.0], dtype=torch.float64)


def held_out_errors(feedback: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points (n, 7) and relative errors (n, pairs, n_ell) of the paper's five bins, 20 <= ell <= 6000."""
    judged = (ELL >= 20) & (ELL <= 6000)
    with np.load(HELD_OUT, allow_pickle=False) as file:
        points, truth = file["points"], file["feedback" if feedback else "dark_matter"]
        np.testing.assert_allclose(file["ell"], ELL[judged], rtol=1e-12)
    cosmology, log_t_agn = torch.from_numpy(points[:, :6].copy()), torch.from_numpy(points[:, 6].copy())
    emulator = Emulator()
    power = emulator.nonlinear(cosmology)
    if feedback:
        power = power + emulator.feedback(cosmology, log_t_agn)
    spectra = Limber(PAPER_SOURCES)(cosmology, power).numpy()[..., judged]
    return points, np.abs(spectra / truth - 1)


@pytest.mark.parametrize("feedback", [False, True])
def test_held_out_cosmologies(feedback: bool) -> None:
    points, errors = held_out_errors(feedback)
    usual = (np.arange(len(points)) < 240) & (points[:, 0] > LEAST_OMEGA_C)
    assert usual.sum() > 200
    assert np.median(errors[usual]) < 5e-4
    assert np.quantile(errors[usual], 0.99) < 5e-3
    # The quick preset's cosmologies, other parameters near their means.
    omega_m, s8 = points[:, 0] + points[:, 1], points[:, 2] * np.sqrt((points[:, 0] + points[:, 1]) / 0.3)
    inner = usual & (omega_m > 0.17) & (omega_m < 0.47) & (s8 > 0.6) & (s8 < 1.0)
    assert inner.sum() > 60
    assert errors[inner].max() < 0.01


def test_gradient_integrates_to_the_difference() -> None:
    """Along a line the integral of the gradient is the difference of the ends.

    Differences over small steps would show the rounding of the large weights of the kernel instead.
    """
    emulator = Emulator()

    def value(x: torch.Tensor) -> torch.Tensor:
        cosmology, log_t_agn = x[..., :6], x[..., 6]
        quantities = (
            emulator.nonlinear(cosmology),
            emulator.linear(cosmology),
            emulator.feedback(cosmology, log_t_agn),
        )
        return torch.stack(quantities)[..., ::11, ::9]

    start = torch.cat([FIDUCIAL, torch.tensor([7.8], dtype=torch.float64)])
    spread = torch.tensor([0.2, 0.006, 0.14, 0.063, 0.08, 0.5, 0.3], dtype=torch.float64)
    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(24))
    for axis in range(7):
        step = torch.zeros(7, dtype=torch.float64)
        step[axis] = 0.8 * spread[axis]
        line = start + 0.5 * (1.0 + nodes)[:, None] * step
        slope = torch.autograd.functional.jacobian(lambda x: value(x).sum(1), line) @ step
        integral = slope @ (0.5 * weights)
        difference = value(start + step) - value(start)
        torch.testing.assert_close(integral, difference, rtol=1e-5, atol=1e-6)
    assert float(difference.abs().max()) > 0.01


def test_design_fills_the_ball_and_its_beginning_is_a_design() -> None:
    points = design(256, 5)
    np.testing.assert_array_equal(points[:100], design(100, 5))
    white = COVERED.to_white(torch.from_numpy(points[:, :6])).numpy()
    radius = np.linalg.norm(white, axis=1)
    assert radius.max() <= RADIUS * (1 + 1e-6)
    assert (radius > 4).mean() == pytest.approx(0.5 * (1 - (4 / RADIUS) ** 6) + 0.007, abs=0.03)
    assert abs(white.mean(0)).max() < 0.3
    assert points[:, 6].min() > LOG_T_AGN[0]
    assert points[:, 6].max() < LOG_T_AGN[1]


def test_held_out_points_are_not_those_of_the_design() -> None:
    points = held_out(7)
    assert points.shape == (400, 7)
    white = COVERED.to_white(torch.from_numpy(points[:, :6])).numpy()
    assert np.linalg.norm(white[240:], axis=1).max() <= HELD_OUT_RADIUS * (1 + 1e-6)
    assert np.linalg.norm(white[:240], axis=1).mean() == pytest.approx(2.35, abs=0.15)
    distance = np.linalg.norm(points[:, None] - design(512, 20261122)[None], axis=2)
    assert distance.min() > 1e-3


def toy_grids(count: int, seed: int) -> Grids:
    """Grids whose logarithms are smooth functions of the inputs."""
    points = design(count, seed)
    x = inputs(torch.from_numpy(points[:, :6].copy())).numpy()
    ell, z = np.log(ELL)[None, :], np.log1p(Z)[:, None]
    shape = (len(Z), len(ELL))
    rows = [
        (
            2 * r[2] - 0.1 * ell * (1 + 0.1 * r[4]) - z * np.exp(0.2 * r[0]),
            2 * r[2] - 0.2 * ell * r[4] - z * np.exp(0.1 * r[0]),
            -0.01 * (p[6] - 7) * ell * np.exp(r[1]) * np.ones(shape),
        )
        for r, p in zip(x, points, strict=True)
    ]
    columns = [np.stack([np.broadcast_to(row, shape).ravel() for row in c]) for c in zip(*rows, strict=True)]
    return Grids(points, *columns)


def test_smooth_functions_are_learnt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting_module, "_TUNED_ON", 100)
    monkeypatch.setattr(fitting_module, "COMPONENTS", {"nonlinear": 9, "linear": 9, "feedback": 8})
    table = fit_table(toy_grids(200, 3), 3)
    path = tmp_path / "table.npz"
    table.save(path)
    emulator = Emulator(MatterTable.load(path))
    fresh = toy_grids(40, 4)
    usual = np.linalg.norm(COVERED.to_white(torch.from_numpy(fresh.points[:, :6])).numpy(), axis=1) < 3
    cosmology = torch.from_numpy(fresh.points[:, :6].copy())
    made = {
        "nonlinear": emulator.nonlinear(cosmology),
        "linear": emulator.linear(cosmology),
        "feedback": emulator.feedback(cosmology, torch.from_numpy(fresh.points[:, 6].copy())),
    }
    for name, value in made.items():
        expected = getattr(fresh, name).reshape(value.shape)
        np.testing.assert_allclose(value.numpy()[usual], expected[usual], atol=0.01)
        assert np.ptp(expected[usual], axis=0).max() > 0.1


def test_quadratic_terms() -> None:
    x = torch.tensor([2.0, 3.0])
    assert quadratic(x).tolist() == [1, 2, 3, 4, 6, 9]


def test_table_survives_a_round_trip(tmp_path: Path) -> None:
    table = shipped_table()
    assert table.provenance["command"] == BUILD
    table.save(tmp_path / "copy.npz")
    again = MatterTable.load(tmp_path / "copy.npz")
    for name, fit in table.fits.items():
        for ours, theirs in zip(fit, again.fits[name], strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("damage", ["cut", "empty", "format", "grid"])
def test_damaged_table_is_refused(tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "table.npz"
    if damage in {"format", "grid"}:
        name, value = {"format": ("_FORMAT", 99), "grid": ("Z", Z + 0.01)}[damage]
        monkeypatch.setattr(table_module, name, value)
        shipped_table().save(path)
        monkeypatch.undo()
    else:
        content = TABLE.read_bytes()
        path.write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
    with pytest.raises(CheckpointError, match="cannot be read"):
        MatterTable.load(path)


def test_runs_are_kept_and_not_repeated(tmp_path: Path) -> None:
    points = np.array([[*FIDUCIAL.tolist(), 7.8], [0.2, 0.05, 0.7, 0.7, 1.0, -0.8, 8.0]])
    done: list[int] = []
    files = run_all(points, tmp_path, processes=2, progress=done.append)
    assert sum(done) == 2
    grids = Grids.read(files)
    direct = matter_power(points[1, :6].tolist(), 8.0)
    np.testing.assert_allclose(grids.nonlinear[1], direct.nonlinear(ELL, Z).ravel(), rtol=1e-9)
    np.testing.assert_allclose(grids.points, points, rtol=1e-12)

    stamps = {file: file.stat().st_mtime_ns for file in files}
    files[1].unlink()
    run_all(points, tmp_path, processes=1, progress=done.append)
    assert files[0].stat().st_mtime_ns == stamps[files[0]]
    np.testing.assert_allclose(Grids.read(files).nonlinear, grids.nonlinear, rtol=1e-6)

    with pytest.raises(RuntimeError, match="another design"):
        run_all(points + 0.01, tmp_path, processes=1, progress=done.append)
    known = json.loads((tmp_path / "points.json").read_text())
    assert known == points.tolist()


def test_failure_of_a_run_is_told(tmp_path: Path) -> None:
    impossible = np.array([[-0.3, 0.05, 0.8, 0.7, 0.96, -1.0, 7.8]])
    with pytest.raises(RuntimeError, match="a CAMB run failed"):
        run_all(impossible, tmp_path, processes=1, progress=lambda _: None)


def test_simulator_needs_neither_camb_nor_glass() -> None:
    code = (
        "import sys; from sbikit_lognormal.simulator import LogNormal; LogNormal();"
        "assert not {'camb', 'glass', 'healpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_camb_the_command_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "find_spec", lambda _: None)
    result = CliRunner().invoke(command.app, ["table", "--runs", str(tmp_path)])
    assert result.exit_code == 2
    assert "pip install 'sbikit[camb]'" in result.output
    assert not list(tmp_path.iterdir())
