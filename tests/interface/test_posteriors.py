"""Posteriors from Python: what is drawn, for what is given, and as what it is had."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from known import Counting, Exactly, Known, Plain

import sbikit
from sbikit import (
    ObservationError,
    OptionError,
    Options,
    PluginError,
    Posterior,
    RunFolderError,
    SbikitError,
    Simulations,
)
from sbikit.plugins import session
from sbikit.testing import GaussianField, GaussianFieldOptions

QUIET = {"progress": False}
X = np.array([1.0, -2.5, 2.0])


@pytest.fixture
def posterior() -> Posterior:
    """The exact one, of the linear toy."""
    return sbikit.exact(Plain, Exactly, **QUIET)


@pytest.fixture
def field() -> Posterior:
    """The exact one of a field of 8 x 8 pixels and a parameter."""
    return sbikit.exact(GaussianField(GaussianFieldOptions(size=8, parameters=1)), Exactly(), **QUIET)


def test_draws_are_of_the_analytic_posterior(posterior: Posterior) -> None:
    """Mean and covariance by numpy, from the formula of a linear model with normal noise."""
    toy = Plain()
    matrix, noise = toy.matrix.numpy(), toy.noise_sd.numpy()
    means, sds = (np.array([getattr(law, key) for law in toy.prior.laws.values()]) for key in ("mean", "sd"))
    weights = np.diag(sds**-2.0) + matrix.T @ np.diag(noise**-2.0) @ matrix
    covariance = np.linalg.inv(weights)
    pull = means / sds**2 + matrix.T @ ((X - toy.offset.numpy()) / noise**2)
    rows = posterior.sample(X, 40_000).to_numpy()["theta"]
    error = np.sqrt(np.diag(covariance) / 40_000)
    assert (np.abs(rows.mean(0) - covariance @ pull) < 4.5 * error).all()
    assert np.allclose(np.cov(rows.T), covariance, rtol=0.04, atol=0.02 * covariance.max())


@pytest.mark.parametrize(
    "given",
    [X, {"x": X}, {"x": torch.tensor(X)}, {"x": list(X)}, {"x": X.astype(np.float32), "more": 3}],
)
def test_one_observation_may_be_given_in_many_ways(posterior: Posterior, given: Any) -> None:
    draws = posterior.sample(given, 30)
    assert draws.single
    assert draws.to_numpy()["theta"].shape == (30, 2)
    assert torch.equal(draws.values["theta"], posterior.sample(X, 30).values["theta"])


def test_many_observations_have_an_axis_and_draws_of_their_own(posterior: Posterior) -> None:
    many = posterior.sample({"x": np.stack([X, X + 1, X])}, 30)
    assert many.to_numpy()["theta"].shape == (30, 3, 2)
    assert len(many) == 3
    alone = posterior.sample(X, 30)
    assert torch.allclose(many.values["theta"][:, 0], alone.values["theta"][:, 0], atol=1e-6)
    assert not torch.allclose(many.values["theta"][:, 2], alone.values["theta"][:, 0], atol=1e-2)
    assert posterior.sample(X[None], 30).to_numpy()["theta"].shape == (30, 1, 2)
    other = posterior.sample(X, 30, seed=5)
    assert not torch.allclose(other.values["theta"], alone.values["theta"], atol=1e-2)
    seeds = np.array([7, 8, 9])
    known = posterior.sample(np.stack([X] * 3), 30, seeds=seeds)
    assert torch.allclose(
        known.values["theta"][:, 1], posterior.sample(X, 30, seeds=seeds[1:2]).values["theta"][:, 0]
    )


def test_the_axis_of_a_single_channel_may_be_left_out(field: Posterior) -> None:
    data = np.random.default_rng(0).standard_normal((2, 1, 8, 8))
    whole = field.sample(data, 10)
    assert torch.equal(field.sample(data[:, 0], 10).values["field"], whole.values["field"])
    assert field.sample(data[0, 0], 10).to_numpy()["field"].shape == (10, 1, 8, 8)
    assert field.sample(data[0], 10).single


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (X[:2], "wrong shape"),
        (np.ones((2, 2, 3)), "wrong shape"),
        (np.float64(3.0), "wrong shape"),
        (np.ones((0, 3)), "wrong shape"),
        ({"y": X}, "'x' is missing"),
        ({}, "'x' is missing"),
        (np.array([1.0, np.nan, 2.0]), "not finite"),
        (np.array([1.0, np.inf, 2.0]), "not finite"),
        (np.array([1.0, 1e300, 2.0]), "not finite"),
        (np.array(["a", "b", "c"]), "not finite"),
        (np.array([1.0, 2.0j, 3.0]), "not finite"),
        (None, "wrong shape"),
    ],
)
def test_what_is_no_observation_is_refused(posterior: Posterior, given: Any, words: str) -> None:
    with pytest.raises(ObservationError, match=words):
        posterior.sample(given, 10)


@pytest.mark.parametrize("n", [0, -3, 10**9])
def test_so_many_draws_cannot_be(posterior: Posterior, n: int) -> None:
    with pytest.raises(OptionError, match="so many draws"):
        posterior.sample(X, n)


def test_draws_that_no_memory_holds_are_refused(field: Posterior) -> None:
    with pytest.raises(OptionError, match="draws for each of 4000 observations"):
        field.sample(np.zeros((4000, 8, 8)), 10_000_000)


def test_there_is_a_seed_for_each_observation(posterior: Posterior) -> None:
    with pytest.raises(ObservationError, match="one seed an observation"):
        posterior.sample(np.stack([X, X, X]), 10, seeds=np.arange(2))


def test_options_of_an_object_are_those_it_was_made_with() -> None:
    class Sized(Options):
        scale: float = 1.0

    class Scaled(Exactly):
        Options = Sized

    one = Scaled(Sized(scale=3.0))
    assert sbikit.exact(Plain, one, **QUIET).sample(X, 5).count == 5
    assert sbikit.exact(Plain, one, scale=3.0, **QUIET).sample(X, 5).count == 5
    with pytest.raises(PluginError, match="options that it was made with") as caught:
        sbikit.exact(Plain, one, scale=2.0, **QUIET)
    assert caught.value.where == "scale"
    with pytest.raises(OptionError, match="no option 'size'"):
        sbikit.exact(Plain, one, size=2, **QUIET)


def test_arviz_gets_what_the_file_of_a_run_holds(posterior: Posterior, tmp_path: Path) -> None:
    draws = posterior.sample(X, 25)
    tree = draws.to_arviz()
    assert dict(tree["posterior"].sizes) == {"chain": 1, "draw": 25, "theta_dim": 2}
    with xr.open_datatree(draws.to_netcdf(tmp_path / "draws.nc"), engine="h5netcdf") as kept:
        for group in ("posterior", "observed_data"):
            xr.testing.assert_equal(kept[group].to_dataset(), tree[group].to_dataset())
            for name, array in tree[group].data_vars.items():
                assert set(kept[group][name].attrs) == set(array.attrs)
    several = posterior.sample(np.stack([X, X]), 25)
    many = several.to_arviz()
    with xr.open_datatree(several.to_netcdf(tmp_path / "many.nc"), engine="h5netcdf") as kept:
        for group in ("posterior", "observed_data"):
            xr.testing.assert_equal(kept[group].to_dataset(), many[group].to_dataset())
    assert dict(many["posterior"].sizes) == {"chain": 1, "draw": 25, "observation": 2, "theta_dim": 2}
    assert dict(many["observed_data"].sizes) == {"observation": 2, "x_dim": 3}


def test_getdist_gets_names_and_the_ends_of_the_prior() -> None:
    pytest.importorskip("getdist")

    class Bounded(Counting):
        prior = sbikit.Prior({"rate": sbikit.Uniform(1.0, 9.0)}, latex={"rate": r"\lambda"})

    draws = sbikit.PosteriorDraws(
        {"theta": torch.linspace(1.5, 8.0, 200).reshape(200, 1, 1)},
        (sbikit.Trust(),),
        spec=Bounded().spec,
        observation={"counts": torch.zeros(1, 2)},
        bounds={"theta": ((1.0, 9.0),)},
    )
    samples = draws.to_getdist()
    assert samples.getParamNames().list() == ["rate"]
    assert samples.getParamNames().labels() == [r"\lambda"]
    assert (samples.ranges.getLower("rate"), samples.ranges.getUpper("rate")) == (1.0, 9.0)
    assert samples.mean("rate") == pytest.approx(4.75)


def test_getdist_has_no_end_where_the_prior_has_none(posterior: Posterior) -> None:
    pytest.importorskip("getdist")
    samples = posterior.sample(X, 200).to_getdist()
    assert samples.ranges.getLower("a") is None
    assert np.allclose(samples.getMeans(), posterior.sample(X, 200).to_numpy()["theta"].mean(0), atol=1e-5)


def test_pictures_of_parameters_and_of_fields(posterior: Posterior, field: Posterior) -> None:
    draws = field.sample(np.random.default_rng(0).standard_normal((8, 8)), 60)
    pictures = [
        posterior.sample(X, 100).plot(truth={"theta": [1.0, -2.0]}),
        draws.plot(),
        draws.plot("field", truth={"field": np.zeros((8, 8))}),
    ]
    for figure in pictures:
        assert figure._repr_png_()[:4] == b"\x89PNG"  # type: ignore[attr-defined]
    titles = [axes.get_title() for axes in pictures[2].axes]
    assert "truth" in titles
    assert "posterior mean" in titles
    for wrong in ({"variable": "nothing"}, {"observation": 1}, {"variable": "field", "channel": 2}):
        with pytest.raises(OptionError):
            draws.plot(**wrong)


def test_a_repr_says_what_it_is(posterior: Posterior) -> None:
    assert repr(posterior) == f"p(theta | x) by {posterior.name}"
    assert repr(posterior.sample(X, 1200)) == "1,200 draws of theta (2,) for one observation"


# --- fitted -----------------------------------------------------------------------------------


def fit(out: Path | None = None, **more: Any) -> Posterior:
    return sbikit.fit(sbikit.simulate(Plain, 400, seed=2, **QUIET), Known, out=out, **QUIET, **more)


def test_a_fit_draws_what_its_sampler_draws() -> None:
    posterior = fit()
    assert Known._fits
    exact = sbikit.exact(Plain, Exactly, **QUIET)
    here, there = (one.sample(X, 40_000).to_numpy()["theta"] for one in (posterior, exact))
    assert np.allclose(here.mean(0), there.mean(0), atol=5 * there.std(0).max() / math.sqrt(20_000))
    assert posterior.folder is not None
    assert posterior.folder.exists()


def test_a_temporary_run_ends_with_its_posterior() -> None:
    posterior = fit()
    folder = posterior.folder
    del posterior
    assert folder is not None
    assert not folder.exists()


def test_the_same_call_goes_on_and_another_is_refused(tmp_path: Path) -> None:
    first = fit(tmp_path / "run")
    sbikit.validate(first, ["sbc"], observations=30, draws=20, **QUIET)
    again = fit(tmp_path / "run")
    assert len(Known._fits) == 1
    assert (tmp_path / "run" / "simulations.zarr").is_dir()  # its own, not one that is gone by now
    assert torch.equal(again.sample(X, 20).values["theta"], first.sample(X, 20).values["theta"])
    with pytest.raises(RunFolderError, match="another configuration") as caught:
        fit(tmp_path / "run", seed=9)
    assert "open_run" in caught.value.fix


def test_a_posterior_is_kept_and_opened_again(tmp_path: Path) -> None:
    posterior = fit()
    kept = posterior.save(tmp_path / "kept")
    again = sbikit.open_run(kept, Plain, estimator=Known, **QUIET)
    assert torch.equal(again.sample(X, 20).values["theta"], posterior.sample(X, 20).values["theta"])
    with pytest.raises(RunFolderError, match="something where"):
        posterior.save(tmp_path / "kept")
    with pytest.raises(SbikitError, match="no run folder"):
        sbikit.exact(Plain, Exactly, **QUIET).save(tmp_path / "other")


def test_a_class_that_was_changed_does_not_open_what_another_made(tmp_path: Path) -> None:
    kept = fit().save(tmp_path / "kept")
    session._HELD.clear()  # another session

    class Changed(Plain):
        more = 1

    Changed.__name__ = "Plain"
    with pytest.raises(PluginError, match="not known here") as caught:
        sbikit.open_run(kept, Changed, estimator=Known, **QUIET)
    assert "of other code or state" in caught.value.got


def test_judging_drops_nothing_that_was_trained(tmp_path: Path) -> None:
    """run.yaml was edited by hand: it says another seed than the posterior was fitted with."""
    posterior = fit(tmp_path / "run")
    file = tmp_path / "run" / "run.yaml"
    file.write_text(file.read_text().replace("seed: 2 ", "seed: 3 "))
    before = (tmp_path / "run" / "stages.json").read_text()
    for judge in (sbikit.validate, sbikit.report):
        with pytest.raises(RunFolderError, match="not what the stage 'keep'"):
            judge(posterior, **QUIET)
    assert (tmp_path / "run" / "stages.json").read_text() == before


def test_the_command_line_says_how_a_folder_of_python_is_opened(tmp_path: Path) -> None:
    kept = fit().save(tmp_path / "kept")
    command = [sys.executable, "-m", "sbikit", "sample", str(kept)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert "sbikit.open_run(folder, Plain())" in done.stderr
    assert "Traceback" not in done.stderr


def test_draws_are_those_of_the_command_line(tmp_path: Path) -> None:
    """With a simulator and an estimator that are installed, on kept simulations."""
    simulator = sbikit.load("simulator", "lognormal", size=8)
    posterior = sbikit.fit(
        sbikit.simulate(simulator, 300, store=tmp_path / "store", **QUIET),
        "npe",
        steps=5,
        out=tmp_path / "run",
        **QUIET,
    )
    data = Simulations(simulator, 1).held_out(0, 1)["shear"][0]
    np.save(tmp_path / "obs.npy", data.numpy())
    command = ["sample", str(tmp_path / "run"), "--observation", str(tmp_path / "obs.npy"), "--draws", "50"]
    done = subprocess.run(
        [sys.executable, "-m", "sbikit", *command], check=False, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    with xr.open_datatree(tmp_path / "run" / "obs-posterior.nc", engine="h5netcdf") as tree:
        drawn = tree["posterior"]["theta"].values[0]
    assert np.array_equal(drawn, posterior.sample(data, 50).to_numpy()["theta"])


def test_unknown_options_are_refused_where_they_were_given() -> None:
    kept = sbikit.simulate(Plain, 50, **QUIET)
    with pytest.raises(OptionError, match="no option 'stesp'") as caught:
        sbikit.fit(kept, "npe", stesp=5, **QUIET)
    assert "sbikit.fit" in caught.value.where
    assert "steps" in caught.value.fix
    with pytest.raises(SbikitError, match="npee"):
        sbikit.fit(kept, "npee", **QUIET)


# --- judged -----------------------------------------------------------------------------------


def test_what_is_exact_passes_and_numbers_may_be_changed(tmp_path: Path) -> None:
    posterior = fit()
    found = sbikit.validate(posterior, ["sbc", "mira"], observations=60, draws=40, **QUIET)
    assert {report.validator for report in found.reports} == {"sbc", "mira"}
    assert found.passed, found
    assert len(set(found.metrics)) == len(found.metrics)
    assert "rank_shift" in repr(found)
    assert "<pre" in found._repr_html_()
    assert found.records()[0]["validator"] == "sbc"
    beside = sbikit.validate(
        posterior, ["sbc"], reference=Exactly, reference_observations=8, reference_draws=200, **QUIET
    )
    assert {report.validator for report in beside.reports} == {"sbc", "agreement"}
    assert beside.passed, beside
    assert len(Known._fits) == 1
    page = sbikit.report(posterior, tmp_path / "pages" / "page.html", **QUIET)
    assert page.read_text().startswith("<!doctype html>")


def test_a_posterior_that_is_wrong_fails() -> None:
    class Wide(Plain):
        """Its exact sampler believes in three times the noise."""

        def exact_sampler(self) -> Any:
            toy = Plain()
            toy.noise_sd = 3 * toy.noise_sd
            return toy.exact_sampler()

    posterior = sbikit.fit(sbikit.simulate(Wide, 400, **QUIET), Known, **QUIET)
    found = sbikit.validate(posterior, ["sbc"], observations=200, draws=60, **QUIET)
    assert not found.passed
    assert any(metric.name == "rank_spread" for metric in found.failed)


def test_the_whole_run_goes_on_and_redoes_when_told(tmp_path: Path) -> None:
    def run(seed: int = 0, **more: Any) -> Posterior:
        return sbikit.run(
            Plain(),
            Known(),
            out=tmp_path / "run",
            validators=["sbc"],
            reference=Exactly(),
            seed=seed,
            settings={
                "sampling.observations": 24,
                "sampling.draws": 20,
                "sampling.shown_draws": 50,
                "sampling.reference_observations": 4,
                "sampling.reference_draws": 60,
            },
            **QUIET,
            **more,
        )

    run()
    assert (tmp_path / "run" / "report.html").exists()
    run()
    assert len(Known._fits) == 1
    with pytest.raises(RunFolderError, match="another configuration"):
        run(seed=1)
    run(seed=1, redo=True)
    assert len(Known._fits) == 2


def test_weights_that_ship_are_had_by_name() -> None:
    posterior = sbikit.pretrained("quick")
    data = Simulations(posterior.simulator, 3).held_out(0, 1)
    draws = posterior.sample(data["shear"][0], 12)
    assert draws.values["kappa"].shape == (12, 1, *posterior.spec.fields[0].shape)
    assert [s.name for s in draws.summarised] == list(draws.summaries)
    assert draws.plot("kappa").axes
    with pytest.raises(SbikitError, match="quik"):
        sbikit.pretrained("quik")
