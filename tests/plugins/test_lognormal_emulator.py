"""The emulator against CAMB at cosmologies it was not fitted to.

`tests/reference/lognormal_held_out.npz` was made by
`python -m sbikit_lognormal.emulator held-out tests/reference/lognormal_held_out.npz`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import sbikit_lognormal.emulator as emulator_module
from sbikit import CheckpointError, SimulationError
from sbikit_lognormal.emulator import (
    SHIPPED,
    Emulator,
    Table,
    chebyshev,
    find_table,
    pack,
    sobol_points,
)
from sbikit_lognormal.runs import from_unit
from sbikit_lognormal.spectra import ELL, Setting, shift

HELD_OUT = Path(__file__).parents[1] / "reference" / "lognormal_held_out.npz"
TABLE = SHIPPED / f"{Setting().digest}.npz"


def held_out_errors() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Cosmologies, relative errors of C(ell) for 20 <= ell <= 6000 and of the shift."""
    with np.load(HELD_OUT, allow_pickle=False) as file:
        spectra, shifts = Emulator(find_table(Setting()))(torch.from_numpy(file["cosmologies"]))
        errors = np.abs(spectra.numpy() / file["spectra"] - 1)[:, 0, 0]
        np.testing.assert_array_equal(file["ell"], ELL)
        return (
            file["cosmologies"],
            errors[:, (ELL >= 20) & (ELL <= 6000)],
            np.abs(shifts.numpy() / file["shifts"] - 1)[:, 0],
        )


def test_held_out_cosmologies() -> None:
    cosmologies, errors, shift_errors = held_out_errors()
    assert np.median(errors) < 5e-4
    assert errors.max() < 0.015
    assert shift_errors.max() < 2e-3
    in_prior = ((cosmologies > [0.17, 0.6, -1.8]) & (cosmologies < [0.47, 1.0, -0.45])).all(1)
    assert in_prior.sum() >= 10
    assert errors[in_prior].max() < 3e-3


def test_gradient_agrees_with_a_finite_difference() -> None:
    emulator = Emulator(find_table(Setting()))

    def value(theta: torch.Tensor) -> torch.Tensor:
        spectra, shifts = emulator(theta)
        return torch.cat([spectra.flatten(1).log(), shifts.log()], dim=1)

    theta = torch.tensor([[0.3, 0.8, -1.0], [0.2, 0.95, -0.5]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(value, (theta,), eps=1e-6, atol=1e-6, rtol=1e-5)


def test_polynomials_are_those_of_numpy() -> None:
    unit = np.random.default_rng(1).random((4, 3))
    features = chebyshev(torch.from_numpy(from_unit(unit))).numpy()
    assert features.shape == (4, 56)
    vander = np.polynomial.chebyshev.chebvander3d(*(2 * unit - 1).T, [5, 5, 5]).reshape(4, 6, 6, 6)
    expected = [vander[:, a, b, c] for a in range(6) for b in range(6) for c in range(6) if a + b + c <= 5]
    np.testing.assert_allclose(features, np.stack(expected, 1), atol=1e-12)


def test_two_bins_are_emulated_with_their_correlation() -> None:
    theta = from_unit(sobol_points(64, 3))
    tilt = np.log(theta @ [[1.0, 2.0], [1.0, 2.0], [0.1, -0.1]] + 3.0)
    auto = np.exp(tilt[:, :, None] - 0.1 * np.log(ELL))
    cross = 0.9 * np.sqrt(auto[:, 0] * auto[:, 1])
    spectra = np.stack([np.stack([auto[:, 0], cross], 1), np.stack([cross, auto[:, 1]], 1)], 1)
    shifts = np.exp(tilt)
    coefficients = np.linalg.lstsq(
        chebyshev(torch.from_numpy(theta)).numpy(), pack(spectra, shifts), rcond=None
    )[0]
    emulator = Emulator(Table(Setting(bins=2), ELL, coefficients, {}))
    emulated, emulated_shift = emulator(torch.from_numpy(theta))
    np.testing.assert_allclose(emulated.numpy(), spectra, rtol=1e-4)
    np.testing.assert_allclose(emulated_shift.numpy(), shifts, rtol=1e-4)


def test_table_survives_a_round_trip(tmp_path: Path) -> None:
    table = Table.load(TABLE)
    assert table.provenance["command"] == "python -m sbikit_lognormal.emulator build"
    table.save(tmp_path / "copy.npz")
    again = Table.load(tmp_path / "copy.npz")
    assert again.setting == Setting()
    np.testing.assert_array_equal(again.coefficients, table.coefficients)


@pytest.mark.parametrize("damage", ["cut", "empty", "format"])
def test_damaged_table_is_refused(tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "table.npz"
    if damage == "format":
        good = Table.load(TABLE)
        monkeypatch.setattr(emulator_module, "_FORMAT", 99)
        good.save(path)
        monkeypatch.undo()
    else:
        content = TABLE.read_bytes()
        path.write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
    with pytest.raises(CheckpointError, match="cannot be read"):
        Table.load(path)


def test_another_distribution_is_built_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # CAMB's place is taken by a power law: what is tested is the building and keeping.
    calls: list[int] = []

    def power_laws(
        setting: Setting, cosmologies: NDArray[np.float64], *_: object
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        calls.append(len(cosmologies))
        c = cosmologies[:, 1, None] ** 2 * 1e-8 / ELL
        return c[:, None, None], np.stack([shift(setting, om, w) for om, _, w in cosmologies])

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(emulator_module, "_run", power_laws)
    other = Setting(z0=0.15)
    table = find_table(other)
    assert find_table(other).coefficients.shape == table.coefficients.shape
    assert calls == [180]
    spectra, shifts = Emulator(table)(torch.tensor([0.3, 0.8, -1.0], dtype=torch.float64))
    np.testing.assert_allclose(spectra[0, 0].numpy(), 0.64e-8 / ELL, rtol=1e-6)
    np.testing.assert_allclose(shifts.numpy(), shift(other, 0.3, -1.0), rtol=1e-3)


def test_failing_build_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("CAMB has no power")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(emulator_module, "run_all", fail)
    with pytest.raises(SimulationError, match="could not be computed"):
        find_table(Setting(z0=0.15))


def test_shipped_table_needs_neither_camb_nor_glass() -> None:
    code = (
        "import sys; from sbikit_lognormal.simulator import LogNormal; LogNormal();"
        "assert not {'camb', 'glass', 'healpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
