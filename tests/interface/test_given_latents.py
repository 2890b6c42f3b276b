"""Latents that are given with the data, from Python and from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from known import Exactly, Known, Plain
from numpy.typing import NDArray
from typer.testing import CliRunner

import sbikit
from sbikit import ObservationError, Posterior, Prior, UnsupportedError
from sbikit.cli import app
from sbikit.problem.laws import Uniform
from sbikit.testing import GaussianField, GaussianFieldOptions

QUIET = {"progress": False}
OPTIONS = GaussianFieldOptions(size=8, parameters=1)


class Bounded(GaussianField):
    """The toy with a prior that has bounds."""

    def __init__(self, options: GaussianFieldOptions | None = None) -> None:
        super().__init__(options)
        self.prior = Prior({"log_amplitude": Uniform(-1.0, 1.0)})


@pytest.fixture(scope="module")
def truth() -> dict[str, NDArray[np.float32]]:
    """Two draws of all variables."""
    values = sbikit.Simulations(Bounded(OPTIONS), 4).held_out(0, 2)
    return {name: value.numpy() for name, value in values.items()}


@pytest.fixture(scope="module")
def posterior() -> Posterior:
    return sbikit.exact(Bounded(OPTIONS), "wiener", **QUIET)


def wiener(theta: NDArray[Any], data: NDArray[Any]) -> tuple[NDArray[Any], float]:
    """Mean of the field's pixels given its power, and their standard deviation, by Wiener's formula."""
    toy = Bounded(OPTIONS)
    power = toy.power(torch.as_tensor(theta), toy.k_squared).numpy()
    known = power / (power + 1.0)
    return np.fft.ifft2(known * np.fft.fft2(data[0])).real, float(np.sqrt(known.mean()))


def test_a_latent_among_the_data_is_known(
    posterior: Posterior, truth: dict[str, NDArray[np.float32]]
) -> None:
    draws = posterior.sample({"data": truth["data"][0], "theta": truth["theta"][0]}, 6000)
    assert set(draws.to_numpy()) == {"field"}
    mean, sd = wiener(truth["theta"][0], truth["data"][0])
    field = draws.to_numpy()["field"][:, 0]
    assert np.abs(field.mean(0) - mean).max() < 4.5 * sd / np.sqrt(6000)
    assert field.std(0).mean() == pytest.approx(sd, rel=0.01)
    other = posterior.sample({"data": truth["data"][0], "theta": np.array([-1.0])}, 6000)
    assert other.to_numpy()["field"].std(0).mean() < 0.8 * sd  # it is the given one that counts


def test_each_observation_has_its_own(posterior: Posterior, truth: dict[str, NDArray[np.float32]]) -> None:
    seeds = np.array([3, 4])
    both = posterior.sample({name: truth[name] for name in ("data", "theta")}, 20, seeds=seeds)
    assert both.to_numpy()["field"].shape == (20, 2, 1, 8, 8)
    one = {"data": truth["data"][1:], "theta": truth["theta"][1:]}
    alone = posterior.sample(one, 20, seeds=seeds[1:])
    assert torch.equal(both.values["field"][:, 1], alone.values["field"][:, 0])


def test_conditional_draws_are_written_and_shown(
    posterior: Posterior, truth: dict[str, NDArray[np.float32]], tmp_path: Path
) -> None:
    draws = posterior.sample({name: truth[name][0] for name in ("data", "theta")}, 20)
    with xr.open_datatree(draws.to_netcdf(tmp_path / "d.nc"), engine="h5netcdf") as tree:
        assert set(tree["posterior"].data_vars) == {"field"}
        assert np.array_equal(tree["observed_data"]["theta"].values, truth["theta"][0])
    draws.plot(truth={"field": truth["field"][0]}).savefig(tmp_path / "d.png")


@pytest.mark.parametrize(
    ("theta", "words"),
    [
        ([1.2], r"theta.log_amplitude lies where it cannot be(.|\n)*-1 to 1(.|\n)*got:      1.2"),
        ([np.nan], "not finite"),
        (np.zeros((2, 2)), "wrong shape"),
        (["a"], "not finite"),
        (np.zeros((3, 1)), "as many of each"),
    ],
)
def test_what_cannot_be_given_is_refused(
    posterior: Posterior, truth: dict[str, NDArray[np.float32]], theta: Any, words: str
) -> None:
    with pytest.raises(ObservationError, match=words):
        posterior.sample({"data": truth["data"][0], "theta": theta}, 5)


def test_what_leaves_nothing_to_infer_is_refused(
    posterior: Posterior, truth: dict[str, NDArray[np.float32]]
) -> None:
    with pytest.raises(UnsupportedError, match="nothing is left to infer"):
        posterior.sample(truth, 5)


def test_who_draws_all_together_says_so(truth: dict[str, NDArray[np.float32]]) -> None:
    given = {name: truth[name][0] for name in ("data", "theta")}
    with pytest.raises(UnsupportedError, match=r"Exactly@\w+ draws all latents together"):
        sbikit.exact(Bounded(OPTIONS), Exactly(), **QUIET).sample(given, 5)
    fitted = sbikit.fit(Bounded(OPTIONS), Known, **QUIET)
    with pytest.raises(UnsupportedError, match="draws all latents together"):
        fitted.sample(given, 5)
    vectors = sbikit.exact(Plain, Exactly, **QUIET)
    with pytest.raises(UnsupportedError, match="nothing is left to infer"):
        vectors.sample({"x": np.zeros(3), "theta": np.zeros(2)}, 5)


# --- from the command line ------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of Gaussian maps with a reference that needs no fit, and an observation."""
    place = tmp_path_factory.mktemp("given")
    options = ["field=gaussian", "size=8", "extent=5.0", "n_gal=60.0"]
    status, _, err = call(
        "init",
        place / "run",
        "--sim",
        "lognormal",
        "--reference",
        "wiener",
        *(f"--set=simulator.{one}" for one in options),
    )
    assert status == 0, err
    made = sbikit.load("simulator", "lognormal", field="gaussian", size=8, extent=5.0, n_gal=60.0)
    values = sbikit.Simulations(made, 1).held_out(0, 1)
    xr.Dataset(
        {
            "shear": (("c", "y", "x"), values["shear"][0].numpy()),
            "theta": (("p",), values["theta"][0].numpy()),
        }
    ).to_netcdf(place / "obs.nc", engine="h5netcdf")
    return place


def call(*words: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, result.stdout, result.stderr


def test_the_command_draws_given_a_latent(folder: Path) -> None:
    words = ["sample", folder / "run", "--observation", folder / "obs.nc", "--reference", "--draws", "50"]
    status, _, err = call(*words, "--given", "theta", "--out", folder / "found.nc")
    assert status == 0, err
    with xr.open_datatree(folder / "found.nc", engine="h5netcdf") as tree:
        assert set(tree["posterior"].data_vars) == {"kappa"}
        assert set(tree["observed_data"].data_vars) == {"shear", "theta"}


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("thet", "did you mean 'theta'?"),
        ("theta,theta", "named twice"),
        ("shear", "no latent of this problem"),
        ("", "no latent of this problem"),
        ("theta,kappa", "nothing is left to infer"),
        ("kappa", "cannot draw the other latents given kappa"),
    ],
)
def test_the_command_refuses_other_names(folder: Path, names: str, words: str) -> None:
    status, _, err = call(
        "sample", folder / "run", "--observation", folder / "obs.nc", "--reference", "--given", names
    )
    assert (status, "Traceback" in err) == (2, False)
    assert words in " ".join(err.split())


def test_given_is_of_new_data(folder: Path) -> None:
    status, _, err = call("sample", folder / "run", "--given", "theta")
    assert (status, "--observation FILE" in err) == (2, True)
