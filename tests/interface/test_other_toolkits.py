"""Posteriors of sbi judged here, simulators of ours inferred there, and samplers that somebody has made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from known import Counting, Plain
from torch.distributions import biject_to

import sbikit
from sbikit import LogNormal, Normal, PluginError, Prior, RunFolderError, Uniform
from sbikit.testing import ExactVector, Spoiled

QUIET = {"progress": False}
X = np.array([1.0, -2.5, 2.0])


def test_a_prior_is_a_distribution_of_torch() -> None:
    prior = Prior({"a": Uniform(-1.0, 2.0), "b": Normal(1.0, 2.0), "c": LogNormal(1.0, 0.5)})
    ours = sbikit.PriorDistribution(prior)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        rows = ours.sample((4000,))
        again = ours.sample((2, 3))
    assert again.shape == (2, 3, 3)
    theirs = [scipy.stats.uniform(-1, 3), scipy.stats.norm(1, 2), scipy.stats.lognorm(0.5)]
    for column, law in zip(rows.T.numpy(), theirs, strict=True):
        assert scipy.stats.kstest(column, law.cdf).pvalue > 1e-3
    wanted = sum(law.logpdf(column) for column, law in zip(rows.T.double().numpy(), theirs, strict=True))
    np.testing.assert_allclose(ours.log_prob(rows).numpy(), wanted, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(ours.mean.numpy(), [law.mean() for law in theirs], rtol=1e-3)
    np.testing.assert_allclose(ours.variance.numpy(), [law.var() for law in theirs], rtol=2e-2)
    assert ours.support.check(rows).all()
    assert ours.support.check(torch.tensor([[3.0, 0.0, 1.0], [0.0, 0.0, -1.0]])).tolist() == [
        [False, True, True],
        [True, True, False],
    ]
    free = biject_to(ours.support).inv(rows)
    torch.testing.assert_close(biject_to(ours.support)(free), rows, rtol=1e-3, atol=1e-4)


def test_a_posterior_of_sbi_on_our_simulator_is_judged_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained there on our prior and function; ours sees the same draws, and that it is calibrated."""
    monkeypatch.chdir(tmp_path)  # sbi writes its logs where one stands
    inference = pytest.importorskip("sbi.inference")
    prior, simulate = sbikit.as_prior_and_function(Plain)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        theta = prior.sample((3000,))
        x = simulate(theta)
        assert x.shape == (3000, 3)
        trainer = inference.NPE(prior, density_estimator="maf", show_progress_bars=False)
        trainer.append_simulations(theta, x).train(max_num_epochs=40, training_batch_size=200)
        theirs = trainer.build_posterior()
    before = torch.get_rng_state()
    posterior = sbikit.adopt(theirs, Plain, name="maf of sbi", out=tmp_path / "run", **QUIET)
    draws = posterior.sample(X, 4000).to_numpy()["theta"]
    assert torch.equal(torch.get_rng_state(), before)
    exact = ExactVector(Plain())
    mean = exact.mean({"x": torch.tensor(X)[None]})[0].numpy()
    sd = exact.covariance.diagonal().sqrt().numpy()
    assert (np.abs(draws.mean(0) - mean) < 0.25 * sd).all()
    np.testing.assert_allclose(draws.std(0) / sd, 1.0, atol=0.2)
    found = sbikit.validate(posterior, ["sbc", "tarp"], observations=60, draws=40, **QUIET)
    assert not found.failed, found
    assert repr(posterior).startswith("p(theta | x) by maf of sbi@")
    again = sbikit.adopt(theirs, Plain, name="maf of sbi", out=tmp_path / "run", **QUIET)
    assert np.array_equal(again.sample(X, 4000).to_numpy()["theta"], draws)


def test_a_sampler_that_is_wrong_is_found(tmp_path: Path) -> None:
    right = sbikit.adopt(Plain().exact_sampler(), Plain, name="mine", out=tmp_path / "run", **QUIET)
    assert sbikit.validate(right, ["sbc"], observations=100, draws=50, **QUIET).passed
    wrong = Spoiled(Plain().exact_sampler(), shift=0.0, scale=2.0)
    with pytest.raises(RunFolderError, match="another configuration"):
        sbikit.adopt(wrong, Plain, name="mine", out=tmp_path / "run", **QUIET)
    judged = sbikit.validate(
        sbikit.adopt(wrong, Plain, **QUIET), ["sbc"], observations=100, draws=50, **QUIET
    )
    assert any(metric.name == "rank_spread" for metric in judged.failed)


def test_what_only_draws_given_a_row_is_enough() -> None:
    """A conjugate posterior of a rate by numpy's global generator, which is put back."""

    class Conjugate:
        def sample(self, shape: tuple[int], x: Any) -> np.ndarray:
            row = np.asarray(x)
            drawn = np.random.gamma(1 + row.sum(), 1 / 2, size=100 * shape[0])  # noqa: NPY002
            return drawn[(drawn > 1) & (drawn < 9)][: shape[0], None]

    before = np.random.get_state()  # noqa: NPY002
    posterior = sbikit.adopt(Conjugate(), Counting, **QUIET)
    one, other = (posterior.sample(np.array([4, 5]), 2000).to_numpy()["theta"] for _ in range(2))
    assert np.array_equal(one, other)
    assert all(np.array_equal(a, b) for a, b in zip(before, np.random.get_state(), strict=True))  # noqa: NPY002
    cut = scipy.stats.gamma(10, scale=0.5)
    mass = cut.cdf(9) - cut.cdf(1)
    found = scipy.stats.kstest(one[:, 0], lambda t: (cut.cdf(t) - cut.cdf(1)) / mass)
    assert found.pvalue > 1e-3
    assert sbikit.validate(posterior, ["sbc"], observations=100, draws=50, **QUIET).passed


def test_draws_of_another_shape_are_refused_and_not_bent() -> None:
    class Turned:
        def sample(self, shape: tuple[int], x: Any) -> np.ndarray:
            return np.zeros((2, *shape))

    with pytest.raises(PluginError, match="wrong shape") as caught:
        sbikit.adopt(Turned(), Plain, **QUIET).sample(X, 5)
    assert (caught.value.expected, caught.value.got) == ("(5, 2): draws, parameters", "(2, 5)")


def test_what_cannot_sample_is_refused() -> None:
    with pytest.raises(PluginError, match="cannot sample"):
        sbikit.adopt(3.0, Plain, **QUIET)
