"""Runs on draws that were made elsewhere: imported, held out, trained on, judged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray
from typer.testing import CliRunner

from sbikit.cli import app
from sbikit.runs import work
from sbikit.runs.config import read_config
from sbikit.runs.job import Run
from sbikit.storage import read_tensors
from sbikit.testing import GaussianVector

SMALL = ("sampling.observations=40", "sampling.draws=8", "sampling.shown_draws=50")
PRIOR = "{a: {law: normal, mean: 1.0, sd: 0.5}, b: {law: normal, mean: -2.0, sd: 1.5}}"
CHOSEN = ["--estimator", "toy-linear", "--validator", "toy-mean", *(f"--set={one}" for one in SMALL)]
TABLE = ["--sim", "table", "--set", f"simulator.prior={PRIOR}"]


def call(*words: str | Path) -> tuple[int, str]:
    """Exit status and standard error of a command."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, result.stderr


@pytest.fixture
def folder(toys: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Toys whose report is a stand-in, and draws of one of them, sorted by a parameter, in a.npz."""

    def report(run: Run) -> list[Path]:
        (run.folder.path / "report.html").write_text("a report")
        return [run.folder.path / "report.html"]

    monkeypatch.setattr(work, "report", report)
    monkeypatch.chdir(toys.parent)
    np.savez("a.npz", **made(2100))
    return toys.parent


def made(count: int) -> dict[str, NDArray[Any]]:
    toy = GaussianVector()
    theta = toy.prior.sample(np.arange(count))
    theta = {"theta": theta["theta"][theta["theta"][:, 0].argsort()]}
    return {"theta": theta["theta"].numpy(), "x": toy.simulate(theta, seeds=np.arange(count))["x"].numpy()}


def rows_in(draws: NDArray[Any], table: NDArray[Any]) -> list[int]:
    """Which row of the table each draw is."""
    places = {row.tobytes(): i for i, row in enumerate(table)}
    return [places[row.tobytes()] for row in draws]


def test_a_table_runs_to_its_report_and_holds_out_what_is_not_trained_on(folder: Path) -> None:
    words = ("run", *TABLE, "--set", "simulator.file=a.npz", *CHOSEN, "--out", "r")
    assert call(*words)[0] == 0
    x = made(2100)["x"]
    held_out = rows_in(read_tensors(Path("r/heldout.safetensors"))[0]["x"].numpy(), x)
    group = zarr.open_group("r/simulations.zarr", mode="r")
    kept = rows_in(np.asarray(group["values/x"]), x)
    assert sorted(kept) == list(range(2100))
    assert held_out == kept[-40:]
    assert np.array_equal(np.asarray(group["seed"]), kept)  # the row of the file in place of a seed
    # What was fitted is what least squares make of the other rows, which are all of them that it asks for.
    train = kept[:2000]
    told = np.column_stack([x[train], np.ones(2000)]).astype(np.float64)
    slope = np.linalg.lstsq(told, made(2100)["theta"][train].astype(np.float64), rcond=None)[0]
    weights = read_tensors_plain(Path("r/checkpoints/estimator/weights.safetensors"))
    assert np.allclose(weights["slope"], slope, rtol=1e-8)
    assert call(*words)[0] == 0  # and all is done


def read_tensors_plain(path: Path) -> dict[str, NDArray[Any]]:
    from safetensors.numpy import load_file

    return load_file(path)


def test_a_table_of_few_rows_runs_to_its_report(folder: Path) -> None:
    """Fewer than validators are given elsewhere: they get all that is trained on."""
    np.savez("few.npz", **made(130))
    small = [f"--set=sampling.{key}" for key in ("observations=10", "draws=8", "shown_draws=50")]
    words = ["--estimator", "npe", "--set", "estimator.steps=5", "--validator", "mira", *small, "--out", "r"]
    status, told = call("run", *TABLE, "--set", "simulator.file=few.npz", *words)
    assert status == 0, told
    assert len(read_tensors(Path("r/first-draws.safetensors"))[0]["theta"]) == 120


def test_a_table_of_another_file_is_another_configuration(folder: Path) -> None:
    words = ("run", *TABLE, "--set", "simulator.file=a.npz", *CHOSEN, "--out", "r")
    assert call(*words)[0] == 0
    changed = made(2100)
    changed["x"][5, 0] += 1.0
    np.savez("a.npz", **changed)
    status, words_ = call(*words)
    assert status == 2
    assert "content of" in words_


def test_a_file_is_named_when_it_is_imported(folder: Path) -> None:
    vectors = ["--set", "simulator.vectors={x: {labels: [p, q, r]}}"]
    assert call("init", "r", *TABLE, *vectors, *CHOSEN)[0] == 0
    status, words = call("simulate", "r")
    assert status == 2
    assert "--import FILE" in words
    assert call("simulate", "r", "--import", "a.npz")[0] == 0
    assert call("fit", "r")[0] == 0
    assert json.loads(Path("r/simulations.json").read_text())["good"] == 2100


def test_more_held_out_than_there_are_draws_is_refused(folder: Path) -> None:
    np.savez("a.npz", **made(30))
    status, words = call("run", *TABLE, "--set", "simulator.file=a.npz", *CHOSEN, "--out", "r")
    assert status == 2
    assert "at most 28 held-out observations" in words


def test_what_is_missing_is_told(folder: Path) -> None:
    np.savez("b.npz", theta=made(100)["theta"])
    words = ("run", *TABLE, "--set", "simulator.file=missing.npz", *CHOSEN, "--out", "m")
    assert call(*words)[0] == 2
    assert call("init", "r", "--sim", "toy", *CHOSEN)[0] == 0
    status, told = call("simulate", "r", "--import", "b.npz")
    assert status == 2
    assert "lacks arrays" in told


def test_a_simulator_goes_on_where_imported_draws_end(folder: Path) -> None:
    assert call("init", "r", "--sim", "toy", *CHOSEN)[0] == 0
    assert call("simulate", "r", "--import", "a.npz")[0] == 0
    group = zarr.open_group("r/simulations.zarr", mode="r")
    before = np.asarray(group["values/x"])
    assert sorted(rows_in(before, made(2100)["x"])) == list(range(2100))
    assert call("simulate", "r", "--simulations", "2300")[0] == 0
    after = np.asarray(zarr.open_group("r/simulations.zarr", mode="r")["values/x"])
    assert np.array_equal(after[:2100], before)
    from sbikit.simulations import Simulations

    assert np.array_equal(after[2100:], Simulations(GaussianVector(), 0).training(2100, 200)["x"])
    assert call("run", "--config", "r/run.yaml", "--out", "r")[0] == 0


def test_draws_are_not_imported_over_others(folder: Path) -> None:
    assert call("init", "r", "--sim", "toy", *CHOSEN, "--simulations", "2050")[0] == 0
    assert call("simulate", "r")[0] == 0
    before = json.loads(Path("r/simulations.json").read_text())
    status, words = call("simulate", "r", "--import", "a.npz")
    assert status == 2
    assert "others are kept here already" in words
    assert json.loads(Path("r/simulations.json").read_text()) == before
    assert call("run", "--config", "r/run.yaml", "--out", "r")[0] == 0
    assert read_config(Path("r/run.yaml")).simulations.count == 2050


def test_a_table_may_have_gaps(folder: Path) -> None:
    arrays = made(2100)
    gaps = np.random.default_rng(0).random(arrays["x"].shape) < 0.2
    arrays["x"] = np.where(gaps, np.nan, arrays["x"])
    np.savez("gaps.npz", **arrays)
    words = ("run", *TABLE, "--set", "simulator.file=gaps.npz", *CHOSEN)
    status, said = call(*words, "--out", "r")
    assert (status, "NaN" in said) == (2, True)
    filled = "simulator.vectors={x: {fill: [1.5, -3.0, 2.0]}}"
    assert call(*words, "--set", filled, "--out", "g")[0] == 0
    group = zarr.open_group("g/simulations.zarr", mode="r")
    x, seen, rows = (np.asarray(group[name]) for name in ("values/x", "values/x_seen", "seed"))
    assert np.array_equal(seen > 0, ~gaps[rows])
    assert np.array_equal(
        x, np.where(gaps, np.float32([1.5, -3.0, 2.0]), arrays["x"]).astype(np.float32)[rows]
    )
