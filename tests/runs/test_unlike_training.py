"""New data unlike all that was trained on are announced, and data like it are not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from numpy.typing import NDArray
from typer.testing import CliRunner

from sbikit.cli import app
from sbikit.problem.errors import ObservationError, RunFolderError
from sbikit.problem.variables import Field, Values, Vector
from sbikit.roles.sampler import Draws, Sampler
from sbikit.runs.familiar import DRAWS, Wary, figures, note, noted_draws, read_familiar
from sbikit.simulations.stream import Simulations
from sbikit.storage.read import read_posterior
from sbikit.testing import GaussianField, GaussianFieldOptions, GaussianVector

CHOSEN = ["--sim", "toy", "--estimator", "toy-linear", "--validator", "toy-mean"]


def call(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(words))
    return result.exit_code, result.stderr


def test_shifted_data_are_drawn_with_a_warning_everywhere(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("init", "a", *CHOSEN)[0] == 0
    assert call("fit", "a")[0] == 0
    np.save("near.npy", [1.0, -2.0, 1.6])
    np.save("far.npy", np.array([1.0, -2.0, 1.6]) + 1e6)
    status, err = call("sample", "a", "--observation", "near.npy", "--out", "near.nc", "--draws", "1e2")
    assert (status, "DO NOT TRUST" in err) == (0, False)
    status, err = call("sample", "a", "--observation", "far.npy", "--out", "far.nc")
    assert status == 0
    assert "DO NOT TRUST THESE DRAWS: the data are unlike all that was trained on" in err
    assert "1e+06" in err
    assert "DO NOT TRUST" in Path("a/run.log").read_text()
    near, far = (read_posterior(tmp_path / f"{name}.nc").trust for name in ("near", "far"))
    assert near is not None
    assert far is not None
    assert (near.trustworthy, far.trustworthy) == (True, False)
    with xr.open_datatree("far.nc", engine="h5netcdf") as tree:
        assert "unlike all" in json.loads(tree["posterior"].attrs["trust"])["complaints"][0]


def test_many_observations_of_a_file_are_drawn_each_by_itself(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is drawn as if alone; the one that is far out is named; the file may be written anew."""
    monkeypatch.chdir(tmp_path)
    assert call("init", "a", *CHOSEN)[0] == 0
    assert call("fit", "a")[0] == 0
    near = np.random.default_rng(0).normal([1.0, -2.0, 1.6], 0.3, (20, 3))
    many = np.concatenate([near[:17], near[17:18] + 1e6, near[18:]])
    np.save("many.npy", many)
    np.save("one.npy", many[0])
    for name in ("many", "one", "many"):
        command = ("sample", "a", "--observation", f"{name}.npy", "--out", f"{name}.nc", "--draws", "50")
        status, err = call(*command)
        assert status == 0, err
        assert ("DO NOT TRUST THESE DRAWS (observation 17)" in err) == (name == "many")
    with (
        xr.open_datatree("many.nc", engine="h5netcdf") as tree,
        xr.open_datatree("one.nc", engine="h5netcdf") as one,
    ):
        draws, trust = tree["posterior"]["theta"], json.loads(tree["posterior"].attrs["trust"])
        assert dict(draws.sizes) == {"chain": 1, "draw": 50, "observation": 20, "theta_dim": 2}
        np.testing.assert_allclose(draws.values[:, :, 0], one["posterior"]["theta"].values, rtol=1e-5)
        np.testing.assert_allclose(tree["observed_data"]["x"].values, many, rtol=1e-6)
    assert [record["trustworthy"] for record in trust] == [b != 17 for b in range(20)]


@pytest.mark.parametrize("simulator", [GaussianVector(), GaussianField(GaussianFieldOptions(size=8))])
def test_held_out_simulations_are_like_the_training(tmp_path: Path, simulator: GaussianVector) -> None:
    """4,000 observations of the same law; a figure with a long tail may lie far out once."""
    note(tmp_path / "kept.json", Simulations(simulator, 0).training(0, DRAWS), simulator.spec.observables)
    familiar = read_familiar(tmp_path / "kept.json")
    assert familiar is not None
    assert familiar.draws == DRAWS
    held_out = Simulations(simulator, 0).held_out(0, 4000)
    assert sum(map(bool, familiar.unlike(held_out, simulator.spec.observables))) <= 1


@pytest.mark.parametrize("change", [lambda x: x + 1e6, lambda x: 20 * x, lambda x: -x + 60, lambda x: x * 0])
def test_a_field_that_is_shifted_wide_or_flat_is_unlike(tmp_path: Path, change: object) -> None:
    simulator = GaussianField(GaussianFieldOptions(size=8))
    draws = Simulations(simulator, 0).training(0, DRAWS)
    note(tmp_path / "kept.json", draws, simulator.spec.observables)
    familiar = read_familiar(tmp_path / "kept.json")
    assert familiar is not None
    odd = {"data": change(draws["data"][:3])}  # type: ignore[operator]
    assert all(familiar.unlike(odd, simulator.spec.observables))


class Failing(Sampler):
    """A sampler that no data please."""

    spec = GaussianVector().spec

    def sample(self, observation: Values, n: int, *, seeds: NDArray[np.int64]) -> Draws:
        raise torch.linalg.LinAlgError("not positive-definite")


def test_a_sampler_that_fails_on_strange_data_is_their_fault_alone(tmp_path: Path) -> None:
    simulator = GaussianVector()
    draws = Simulations(simulator, 0).training(0, DRAWS)
    note(tmp_path / "kept.json", draws, simulator.spec.observables)
    familiar = read_familiar(tmp_path / "kept.json")
    assert familiar is not None
    wary, x = Wary(Failing(), familiar), draws["x"][:1]
    with pytest.raises(ObservationError, match="fails on these data") as caught:
        wary.sample({"x": x + 1e30}, 5, seeds=np.array([1]))
    assert "unlike all" in caught.value.got
    with pytest.raises(torch.linalg.LinAlgError):
        wary.sample({"x": x}, 5, seeds=np.array([1]))


def test_figures_are_those_of_numpy() -> None:
    field = Field("map", grid=(4, 5), channels=2)
    value = torch.randn(3, 2, 4, 5, generator=torch.Generator().manual_seed(1))
    found = figures(field, value)
    pixels = value.numpy().astype(np.float64)[:, 1].reshape(3, 20)
    np.testing.assert_allclose(found["sd of channel 2 of map"], pixels.std(1))
    np.testing.assert_allclose(found["maximum of channel 2 of map"], pixels.max(1))
    vector = figures(Vector("x", ("a", "b")), torch.tensor([[1.0, 2.0]]))
    assert {name: of.tolist() for name, of in vector.items()} == {"x.a": [1.0], "x.b": [2.0]}


def test_a_damaged_record_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    simulator = GaussianVector()
    note(path, Simulations(simulator, 0).training(0, DRAWS), simulator.spec.observables)
    path.write_text(path.read_text().replace(str(DRAWS), "513"))
    for read in (read_familiar, noted_draws):
        with pytest.raises(RunFolderError, match="cannot be read"):
            read(path)
        with pytest.raises(RunFolderError, match="cannot be read"):
            read(tmp_path / "absent.json")


def test_ranges_are_those_of_the_first_draws(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    simulator = GaussianVector()
    draws = Simulations(simulator, 1).training(0, DRAWS + 100)
    note(path, draws, simulator.spec.observables)
    x = draws["x"][:DRAWS, 0].double()
    familiar = read_familiar(path)
    assert familiar is not None
    assert (familiar.ranges["x.x1"].low, familiar.ranges["x.x1"].high) == (float(x.min()), float(x.max()))
    assert (familiar.draws, noted_draws(path)) == (DRAWS, DRAWS + 100)


@pytest.mark.parametrize("count", [0, 31])
def test_of_few_draws_nothing_is_said(tmp_path: Path, count: int) -> None:
    simulator = GaussianVector()
    draws = Simulations(simulator, 0).training(0, count) if count else {}
    note(tmp_path / "kept.json", draws, simulator.spec.observables)
    assert read_familiar(tmp_path / "kept.json") is None
    assert noted_draws(tmp_path / "kept.json") == count
