"""A prior of correlated parameters: chains and what is learned beside the posterior in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import sbikit
from sbikit import Prior
from sbikit.testing import GaussianVector

COVARIANCE = np.array([[0.25, -0.6], [-0.6, 2.25]])
X = np.array([1.0, -2.5, 2.0])


class Correlated(GaussianVector):
    """The linear toy with parameters that depend on each other."""

    prior = Prior.normal({"a": 1.0, "b": -2.0}, COVARIANCE)


def closed_form() -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of the posterior, by numpy."""
    toy = Correlated()
    matrix, noise = toy.matrix.numpy(), toy.noise_sd.numpy()
    weights = np.linalg.inv(COVARIANCE)
    covariance = np.linalg.inv(weights + matrix.T @ np.diag(noise**-2.0) @ matrix)
    pull = weights @ [1.0, -2.0] + matrix.T @ ((X - toy.offset.numpy()) / noise**2)
    return covariance @ pull, covariance


@pytest.mark.parametrize(("sampler", "options"), [("hmc", {"draws": 4000}), ("nuts", {"draws": 4000})])
def test_chains_are_of_the_posterior_in_closed_form(sampler: str, options: dict[str, int]) -> None:
    mean, covariance = closed_form()
    posterior = sbikit.exact(Correlated, sampler, progress=False, **options)
    draws = posterior.sample(X, 4000)
    rows = draws.to_numpy()["theta"].astype(float)
    effective = 1500  # of 4,000, at least
    assert draws.trust[0].trustworthy
    assert (np.abs(rows.mean(0) - mean) < 4.5 * np.sqrt(np.diag(covariance) / effective)).all()
    np.testing.assert_allclose(np.cov(rows.T) / covariance, 1.0, atol=4.5 * np.sqrt(6 / effective))


def test_what_is_learned_is_of_the_posterior_in_closed_form() -> None:
    """By npe, to a tenth of a standard deviation and a tenth of each covariance."""
    mean, covariance = closed_form()
    kept = sbikit.simulate(Correlated, 8000, progress=False)
    posterior = sbikit.fit(kept, "npe", steps=1500, progress=False)
    rows = posterior.sample(X, 8000).to_numpy()["theta"].astype(float)
    assert (np.abs(rows.mean(0) - mean) < 0.12 * np.sqrt(np.diag(covariance))).all()
    assert np.cov(rows.T)[0, 1] == pytest.approx(
        covariance[0, 1], abs=0.12 * np.sqrt(np.prod(np.diag(covariance)))
    )
    np.testing.assert_allclose(np.diag(np.cov(rows.T)) / np.diag(covariance), 1.0, atol=0.15)


def test_another_correlation_is_another_problem() -> None:
    from sbikit.learning.identity import describe_problem

    one, other = Correlated(), GaussianVector()
    assert "correlation" in describe_problem(one, one.spec)
    assert "correlation" not in describe_problem(other, other.spec)
    assert torch.equal(other.prior.from_white(torch.zeros(1, 2)), torch.tensor([[1.0, -2.0]]))
