"""The simulator `table`: what its arrays are, from options or from the file; imports checked row by row."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tables import WRITERS, gaussian

from sbikit import Field, ObservationError, OptionError, Simulator, Uniform, UnsupportedError, Vector, load
from sbikit.simulations.attempts import Attempts
from sbikit.simulations.importing import DrawsFile, import_draws

NORMAL = {"law": "normal", "mean": 0.0, "sd": 1.0}
PRIOR = {"a": NORMAL, "b": NORMAL}


def table(path: Path, arrays: dict[str, Any] | None = None, **options: Any) -> Any:
    np.savez(path / "a.npz", **(gaussian(40) if arrays is None else arrays))
    return load("simulator", "table", file=str(path / "a.npz"), **options)


@pytest.mark.parametrize("name", ["a.npz", "a.h5", "a.zarr"])
def test_a_file_can_say_all_of_itself(name: str, tmp_path: Path) -> None:
    extra = {"prior_low": np.array([-9.0, -8.0]), "prior_high": np.array([9.0, 8.0])}
    labels = {"labels": np.array(["a", "b"])} if name != "a.zarr" else {}
    WRITERS[name](tmp_path / name, {**gaussian(40), **extra, **labels})
    found = load("simulator", "table", file=str(tmp_path / name))
    names = ("a", "b") if labels else ("theta_1", "theta_2")
    assert found.prior.laws == {names[0]: Uniform(-9.0, 9.0), names[1]: Uniform(-8.0, 8.0)}
    assert found.outputs == (Vector("x", ("x_1", "x_2")),)
    assert found.observed == ("x",)
    assert found.given_draws() == tmp_path / name


def test_options_say_what_arrays_are(tmp_path: Path) -> None:
    arrays = {**gaussian(40), "kappa": np.zeros((40, 8, 6)), "shear": np.zeros((40, 2, 8, 6))}
    fields = {"kappa": {"stationary": True, "periodic": True, "extent": [4.0, 3.0]}, "shear": {"channels": 2}}
    found = table(tmp_path, arrays, prior=PRIOR, observed=["shear", "x"], fields=fields)
    named = {v.name: v for v in found.outputs}
    assert named["kappa"] == Field("kappa", (8, 6), extent=(4.0, 3.0), stationary=True, periodic=True)
    assert named["shear"] == Field("shear", (8, 6), channels=2)
    assert [v.name for v in found.spec.latents] == ["theta", "kappa"]


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({}, "simulator.prior"),
        ({"prior": {"a": NORMAL}}, "simulator.prior"),
        ({"prior": PRIOR, "parameters": "phi"}, "simulator.parameters"),
        ({"prior": PRIOR, "observed": ["y"]}, "simulator.fields, vectors or observed"),
        ({"prior": PRIOR, "vectors": {"x": {"labels": ["one"]}}}, "simulator.vectors.x"),
        ({"prior": PRIOR, "fields": {"x": {"channels": 3}}}, "simulator.fields.x"),
        ({"prior": {"a": {"low": 0.0}, "b": NORMAL}}, "a"),
    ],
)
def test_what_does_not_fit_is_refused_by_option(options: Any, where: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError) as refusal:
        table(tmp_path, **options)
    assert where in refusal.value.where


def test_a_missing_prior_is_told_with_what_the_table_spans(tmp_path: Path) -> None:
    with pytest.raises(OptionError) as refusal:
        table(tmp_path)
    low = gaussian(40)["theta"].min(0)
    assert f"theta_1: {low[0]:.6g} to" in refusal.value.got


def test_without_a_file_all_must_be_told() -> None:
    found = load("simulator", "table", prior=PRIOR, vectors={"x": {"labels": ["p", "q"]}})
    assert found.given_draws() is None
    assert found.outputs == (Vector("x", ("p", "q")),)
    with pytest.raises(OptionError):
        load("simulator", "table", vectors={"x": {"labels": ["p"]}})


def test_a_table_does_not_simulate(tmp_path: Path) -> None:
    found = table(tmp_path, prior=PRIOR)
    with pytest.raises(UnsupportedError, match="cannot simulate"):
        found.simulate(found.prior.sample(np.arange(2)), seeds=np.arange(2))


# --- importing ---


def import_all(file: Path, simulator: Simulator) -> Iterator[Attempts]:
    given = DrawsFile.of(file, simulator)
    yield from import_draws(given, simulator, 0, range(given.draws), 16)


@pytest.mark.parametrize("name", WRITERS)
def test_every_row_is_imported_once_in_a_random_order(name: str, tmp_path: Path) -> None:
    arrays = gaussian(300)
    WRITERS[name](tmp_path / name, arrays)
    simulator = load("simulator", "table", file=str(tmp_path / name), prior=PRIOR)
    given = DrawsFile.of(tmp_path / name, simulator)
    assert given.draws == 300
    parts = list(import_draws(given, simulator, 5, range(0, 300), 64))
    rows = np.concatenate([part.seeds for part in parts])
    assert np.array_equal(np.sort(rows), np.arange(300))
    assert [part.first for part in parts] == [0, 64, 128, 192, 256]
    x = np.concatenate([part.outputs["x"].numpy() for part in parts])
    theta = np.concatenate([part.parameters["theta"].numpy() for part in parts])
    assert np.array_equal(x, arrays["x"][rows].astype(np.float32))
    assert np.array_equal(theta, arrays["theta"][rows].astype(np.float32))
    # The file is sorted by its first parameter; the first half of what is imported is not.
    assert abs(theta[:150, 0].mean()) < 4.0 / np.sqrt(150)


def test_a_piece_is_the_same_as_in_the_whole(tmp_path: Path) -> None:
    simulator = table(tmp_path, prior=PRIOR)
    whole = next(import_draws(DrawsFile.of(tmp_path / "a.npz", simulator), simulator, 5, range(0, 40), 40))
    piece = next(import_draws(DrawsFile.of(tmp_path / "a.npz", simulator), simulator, 5, range(10, 20), 64))
    assert np.array_equal(piece.seeds, whole.seeds[10:20])
    assert np.array_equal(piece.outputs["x"], whole.outputs["x"][10:20])


def test_rows_that_are_not_finite_have_failed(tmp_path: Path) -> None:
    arrays = gaussian(40)
    arrays["x"][7, 1] = np.nan
    simulator = table(tmp_path, arrays, prior=PRIOR)
    (part,) = import_draws(DrawsFile.of(tmp_path / "a.npz", simulator), simulator, 0, range(0, 40), 40)
    ((row, failure),) = part.failures.items()
    assert part.seeds[row] == 7
    assert failure.kind == "not finite"


def test_parameters_outside_of_the_prior_are_refused_by_row(tmp_path: Path) -> None:
    arrays = gaussian(40)
    arrays["theta"][11, 0] = 4.5
    bounds = {"low": -4.0, "high": 4.0}
    simulator = table(tmp_path, arrays, prior={"a": bounds, "b": bounds})
    with pytest.raises(ObservationError) as refusal:
        list(import_draws(DrawsFile.of(tmp_path / "a.npz", simulator), simulator, 0, range(0, 40), 16))
    assert refusal.value.where.endswith("row 11")
    assert refusal.value.got == "4.5"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda a: a.pop("x"), "lacks arrays"),
        (lambda a: a.update(x=a["x"][:-1]), "one row a draw"),
        (lambda a: a.update(x=a["x"][:, :1]), "wrong shape"),
        (lambda a: a.update(x=a["x"] + 1j), "no real numbers"),
        (lambda a: a.update(x=1e9 + 1e-3 * a["x"]), "do not resolve"),
    ],
)
def test_files_of_other_draws_are_refused(spoil: Any, words: str, tmp_path: Path) -> None:
    simulator = load("simulator", "table", prior=PRIOR, vectors={"x": {"labels": ["p", "q"]}})
    arrays = gaussian(40)
    spoil(arrays)
    np.savez(tmp_path / "b.npz", **arrays)
    with pytest.raises(ObservationError, match=words):
        list(import_all(tmp_path / "b.npz", simulator))
