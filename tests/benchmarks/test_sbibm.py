"""The problems of sbibm and their exact posteriors, beside what scipy finds and by ranks of the truth."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
from _sbibm.exact import exact_draws
from _sbibm.tasks import TASKS, BernoulliGlm, infected
from scipy.integrate import solve_ivp
from scipy.linalg import toeplitz

from sbikit import Simulations
from sbikit.testing import check_simulator


@pytest.mark.parametrize("task", TASKS)
def test_they_are_simulators(task: str) -> None:
    check_simulator(TASKS[task]())


@pytest.mark.parametrize(("beta", "gamma"), [(0.4, 0.125), (1.5, 0.1), (0.12, 0.2)])
def test_an_epidemic_is_that_of_scipy(beta: float, gamma: float) -> None:
    def slope(_: float, state: list[float]) -> list[float]:
        new, over = beta * state[0] * state[1], gamma * state[1]
        return [-new, new - over]

    days = np.arange(0, 160, 17.0)
    found = solve_ivp(slope, (0.0, 160.0), [1 - 1e-6, 1e-6], t_eval=days, rtol=1e-10, atol=1e-14)
    ours = infected(torch.tensor([[beta, gamma]]).double())[0]
    np.testing.assert_allclose(ours.numpy(), found.y[1], rtol=2e-4, atol=1e-9)


def test_spikes_are_counted_and_correlated_with_the_stimulus() -> None:
    """Means of the data are those of Bernoulli's law, by scipy's matrix of lags."""
    stimulus = np.random.RandomState(42).randn(100)
    np.testing.assert_allclose(stimulus[:3], [0.49671414, -0.1382643, 0.64768857], rtol=1e-6)
    design = np.concatenate([np.ones((100, 1)), toeplitz(stimulus, np.zeros(9))], 1)
    theta = np.linspace(-1.0, 1.0, 10)
    white = torch.randn(20_000, 100, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = BernoulliGlm().data(torch.tensor(theta).expand(20_000, 10), white).numpy()
    often = 1 / (1 + np.exp(-design @ theta))
    sd = np.sqrt((often * (1 - often)) @ design**2)
    assert (np.abs(found.mean(0) - often @ design) < 4 * sd / np.sqrt(20_000)).all()
    np.testing.assert_allclose(found.std(0), sd, rtol=0.03)


@pytest.mark.parametrize(
    "task", ["two_moons", "gaussian_mixture", "gaussian_linear", "gaussian_linear_uniform"]
)
def test_exact_draws_rank_the_truth_anywhere(task: str) -> None:
    """Of 400 observations: a posterior of another problem would put it near an end, or in the middle."""
    drawn = Simulations(TASKS[task](), 3).held_out(0, 400)
    below = torch.stack(
        [
            (exact_draws(task, x, 19, number) < theta).sum(0)
            for number, (theta, x) in enumerate(zip(drawn["theta"], drawn["x"], strict=True))
        ]
    )
    for ranks in below.T:
        counts = np.bincount(ranks.numpy(), minlength=20)
        assert scipy.stats.chisquare(counts).pvalue > 1e-4


def test_exact_draws_of_slcp_have_the_moments_of_weighed_ones() -> None:
    """The likelihood of four points, written out, weighs draws of the prior."""
    x = Simulations(TASKS["slcp"](), 3).held_out(0, 1)["x"][0]
    found = exact_draws("slcp", x, 2000, 0).double().numpy()
    source = np.random.default_rng(1)
    theta = source.uniform(-3.0, 3.0, (400_000, 5))
    first, second, tied = theta[:, 2] ** 2, theta[:, 3] ** 2, np.tanh(theta[:, 4])
    away = x.double().numpy().reshape(4, 2)[None] - theta[:, None, :2]
    a, b = away[..., 0] / first[:, None], away[..., 1] / second[:, None]
    rest = (1 - tied**2)[:, None]
    log_density = (-0.5 * (a**2 - 2 * tied[:, None] * a * b + b**2) / rest - 0.5 * np.log(rest)).sum(1)
    log_density -= 4 * np.log(first * second)
    weights = np.exp(log_density - log_density.max())
    weights /= weights.sum()
    effective = 1 / (weights**2).sum()
    assert effective > 300
    mean = weights @ np.abs(theta)
    sd = np.sqrt(weights @ (np.abs(theta) - mean) ** 2)
    assert (np.abs(np.abs(found).mean(0) - mean) < 4 * sd * np.sqrt(1 / effective + 1 / 2000)).all()
    assert (np.abs(np.sign(found[:, 2:4]).mean(0)) < 0.1).all()  # either sign alike
