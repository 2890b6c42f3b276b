"""The epidemic against what is known of it, and the particle filter beside a sum over all states."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import binom

from sbikit import Simulations, draw_seeds
from sbikit.testing import check_plugin
from sbikit_epidemic.exact import _filtered, exact
from sbikit_epidemic.simulator import Epidemic, EpidemicOptions


def test_contract() -> None:
    check_plugin(Epidemic(EpidemicOptions(days=8)))


def test_numbers_are_whole_and_add_up() -> None:
    simulator = Epidemic()
    drawn = Simulations(simulator, 0).training(0, 200)
    infected, reports = drawn["infected"][:, 0].numpy(), drawn["reports"][:, 0].numpy()
    for values in (infected, reports):
        assert (values == np.rint(values)).all()
        assert (values >= 0).all()
    assert (infected <= 1000).all()
    assert (reports.sum(1) <= 995).all()


def test_the_mean_of_the_first_day_is_that_of_binomial_numbers() -> None:
    """New cases, their reports, and who recovers, by the formulas of the model."""
    simulator = Epidemic(EpidemicOptions(days=4, infected=100))
    count, R0, duration = 4000, 3.0, 5.0
    theta = np.broadcast_to(np.float32([R0, duration]), (count, 2))
    given = {"theta": torch.from_numpy(theta.copy())}
    drawn = simulator.simulate(given, seeds=draw_seeds(0, "day", 0, count))
    new = 900 * (1 - np.exp(-R0 / duration * 0.1))
    stay = 100 * np.exp(-1 / duration)
    first = np.asarray(drawn["infected"])[:, 0, 0]
    assert first.mean() == pytest.approx(new + stay, abs=5 * first.std() / count**0.5)
    reports = np.asarray(drawn["reports"])[:, 0, 0]
    assert reports.mean() == pytest.approx(0.4 * new, abs=5 * reports.std() / count**0.5)


def all_states(simulator: Epidemic, reports: np.ndarray, R0: float, duration: float) -> float:
    """Log likelihood by a sum over all numbers of susceptible and infected people: a small town."""
    o = simulator.options
    size = o.people + 1
    mass = np.zeros((size, size))  # susceptible, infected
    mass[o.people - o.infected, o.infected] = 1.0
    log = 0.0
    for seen in reports:
        after = np.zeros_like(mass)
        for s, i in np.argwhere(mass > 0):
            new = np.arange(s + 1)
            cases = binom.pmf(new, s, -np.expm1(-R0 / duration * i / o.people))
            cases = cases * binom.pmf(seen, new, o.reported)
            left = binom.pmf(np.arange(i + 1), i, -np.expm1(-1 / duration))
            for n, p in zip(new, cases, strict=True):
                for gone, q in enumerate(left):
                    after[s - n, i + n - gone] += mass[s, i] * p * q
        total = after.sum()
        log, mass = log + np.log(total), after / total
    return float(log)


def test_the_filter_estimates_the_likelihood_that_a_sum_gives() -> None:
    simulator = Epidemic(EpidemicOptions(people=10, infected=2, days=4))
    reports = np.array([1, 0, 2, 1])
    grid = np.array([[1.5, 4.0], [3.0, 4.0], [5.0, 8.0]])
    wanted = [all_states(simulator, reports, *node) for node in grid]
    found, paths = _filtered(simulator, reports, grid, 40_000, np.random.default_rng(0))
    np.testing.assert_allclose(found, wanted, atol=0.05)
    assert paths.shape == (3, 40_000, 4)
    assert paths.min() >= 0
    assert paths.max() <= 10


def test_the_exact_posterior_is_calibrated() -> None:
    """Parameters and the series of 24 epidemics among draws of the prior, by z-scores."""
    simulator = Epidemic()
    held_out = Simulations(simulator, 3).held_out(0, 24)
    found = [exact(simulator, row[0], nodes=16, particles=150) for row in held_out["reports"].numpy()]
    mean, sd = (np.stack([getattr(one, key) for one in found]) for key in ("mean", "sd"))
    z = (held_out["theta"].numpy() - mean) / sd
    assert abs(z.mean()) < 4 / z.size**0.5
    assert (z**2).mean() == pytest.approx(1.0, abs=0.7)
    infected, spread = (np.stack([getattr(one, key) for one in found]) for key in ("infected", "spread"))
    wide = spread > 1.0
    z = ((held_out["infected"][:, 0].numpy() - infected) / np.maximum(spread, 1e-9))[wide]
    assert abs(z.mean()) < 0.5
    assert (z**2).mean() == pytest.approx(1.0, abs=0.5)
