"""Counts of clusters against what is known of them: a mass function that is integrated, Poisson numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from sbikit import Simulations, draw_seeds
from sbikit.testing import check_plugin
from sbikit_clusters.exact import expected, moments
from sbikit_clusters.mass_function import BLUR, EDGES, LEAST, LIMIT, MOST, SCATTER, VOLUME, density
from sbikit_clusters.simulator import CheapClusters, Clusters

OMEGA_M, SIGMA_8 = 0.3, 0.8


def integrated(low: float, high: float) -> float:
    """The number of clusters that are seen between two ln M, by quad: of each true mass the share that is
    scattered there and found.
    """

    def seen(ln_mass: float) -> float:
        inside = norm.cdf((high - ln_mass) / SCATTER) - norm.cdf((low - ln_mass) / SCATTER)
        return float(density(ln_mass, OMEGA_M, SIGMA_8) * inside * norm.cdf((ln_mass - LIMIT) / BLUR))

    return VOLUME * quad(seen, LEAST, MOST, epsabs=0.0, epsrel=1e-9, limit=200)[0]


def test_contract() -> None:
    check_plugin(Clusters())
    check_plugin(CheapClusters())


def test_all_matter_is_in_halos() -> None:
    """The mass function of Press and Schechter holds all of it: int M dn = rho."""
    scale = quad(
        lambda x: float(np.exp(x) * density(x, OMEGA_M, SIGMA_8)), -60.0, 45.0, limit=500, points=[20.0, 33.0]
    )[0]
    assert scale == pytest.approx(2.775e11 * OMEGA_M, rel=1e-3)


def test_expected_numbers_are_those_that_are_integrated_and_drawn() -> None:
    rate = expected(np.array([OMEGA_M]), np.array([SIGMA_8]))[0]
    for i in (0, 20, len(rate) - 1):
        assert rate[i] == pytest.approx(integrated(EDGES[i], EDGES[i + 1]), rel=1e-3)
    count = 400
    given = {"theta": torch.tensor([[OMEGA_M, SIGMA_8]]).expand(count, 2)}
    drawn = np.asarray(Clusters().simulate(given, seeds=draw_seeds(0, "x", 0, count))["counts"])
    assert (drawn == np.rint(drawn)).all()
    pull = (drawn.mean(0) - rate) / np.sqrt(rate / count)
    assert np.abs(pull).max() < 4.5
    assert drawn.sum(1).var() / drawn.sum(1).mean() == pytest.approx(1.0, abs=0.3)  # Poisson


def test_truths_are_draws_of_the_exact_posterior() -> None:
    values = Simulations(Clusters(), 0).held_out(0, 100)
    mean, sd = moments(values["counts"].numpy(), nodes=201)
    pull = (values["theta"].numpy() - mean) / sd
    assert np.abs(pull.mean(0)).max() < 0.4
    assert pull.std(0) == pytest.approx(np.ones(2), abs=0.25)
