"""Rejection from a mixture that has learned a posterior's shape, with posteriors that are known."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from sbikit import SimulationError, generator
from sbikit_exact.wiener.diagnostics import RejectionDiagnostics
from sbikit_exact.wiener.mixture import Mixture, Weighted
from sbikit_exact.wiener.rejection import Drawn, draw_by_rejection


def scouts(log_likelihood: Callable[[Tensor], Tensor], dimension: int, count: int = 4096) -> Weighted:
    z = torch.randn(count, dimension, generator=generator(8), dtype=torch.float64)
    return Weighted(z, log_likelihood(z))


def rejected(log_likelihood: Callable[[Tensor], Tensor], dimension: int, n: int) -> Drawn:
    start = scouts(log_likelihood, dimension)
    return draw_by_rejection(log_likelihood, start, n, kernels=512, points=4096, source=generator(9))


def test_proposal_has_the_density_that_it_says() -> None:
    start = scouts(lambda z: -2.0 * (z[:, 0] - z[:, 1] ** 2).square(), 2)
    mixture = Mixture(start, 64, generator(1))
    edges = torch.linspace(-12.0, 12.0, 481, dtype=torch.float64)
    centres = 0.5 * (edges[1:] + edges[:-1])
    density = mixture.log_density(torch.cartesian_prod(centres, centres)).exp().reshape(480, 480) * 0.05**2
    assert float(density.sum()) == pytest.approx(1.0, abs=2e-3)
    n = 20_000
    z = mixture.sample(n, generator(2)).clamp(-11.9, 11.9)
    counts = np.histogramdd(z.numpy(), bins=[edges.numpy()[::20]] * 2)[0]
    expected = density.reshape(24, 20, 24, 20).sum((1, 3)).numpy() * n
    kept = expected > 10
    score = float(((counts - expected) ** 2 / expected)[kept].sum())
    assert 1e-3 < stats.chi2(kept.sum()).cdf(score) < 1 - 1e-3


@pytest.mark.parametrize(("dimension", "sd"), [(1, 0.01), (3, 0.02), (6, 0.2), (9, 0.5)])
def test_a_narrow_normal_posterior_is_found(dimension: int, sd: float) -> None:
    """From points of the prior almost none of which lies in it: they carry 1e-6 of its volume."""
    centre = torch.linspace(-1.0, 1.5, dimension, dtype=torch.float64)
    found = rejected(lambda z: -0.5 * ((z - centre) / sd).square().sum(1), dimension, 2000)
    variance = sd**2 / (1.0 + sd**2)
    white = (found.z - centre / (1.0 + sd**2)) / math.sqrt(variance)
    assert 1e-3 < stats.chi2(dimension).cdf(float(white.mean(0).square().sum() * len(white))) < 1 - 1e-3
    assert stats.kstest(white.square().sum(1).numpy(), stats.chi2(dimension).cdf).pvalue > 1e-3
    assert found.excess < 0.005
    assert found.ess > 2000


def test_two_modes_get_their_shares() -> None:
    def log_likelihood(z: Tensor) -> Tensor:
        low, high = (-0.5 * ((z - place) / 0.1).square().sum(1) for place in (-1.0, 1.0))
        return torch.logaddexp(low, high + math.log(3.0))

    found = rejected(log_likelihood, 2, 4000)
    share = float((found.z[:, 0] > 0).double().mean())
    assert abs(share - 0.75) < 4 * math.sqrt(0.75 * 0.25 / 4000)


def test_a_posterior_that_the_proposal_cannot_follow_is_not_trusted() -> None:
    """A funnel: the scale of nine coordinates grows a hundredfold along the first."""

    def log_likelihood(z: Tensor) -> Tensor:
        scale = torch.exp(-2.5 + 1.5 * z[:, :1])
        return (-0.5 * (z[:, 1:] / scale).square() - scale.log() + 0.5 * z[:, 1:].square()).sum(1)

    found = rejected(log_likelihood, 10, 500)
    judged = RejectionDiagnostics(found.excess, found.ess, found.largest, found.evaluations, 0.0)
    assert not judged.trust().trustworthy


def test_where_the_likelihood_is_not_a_number_there_is_no_posterior() -> None:
    found = rejected(lambda z: torch.where(z[:, 0] > 0, -z[:, 0], math.nan), 2, 500)
    assert float(found.z[:, 0].min()) > 0
    with pytest.raises(SimulationError):
        rejected(lambda z: torch.full((len(z),), math.nan, dtype=torch.float64), 2, 10)


def test_trust_needs_a_small_excess_that_is_known() -> None:
    good = RejectionDiagnostics(excess=0.004, ess=500.0, largest=0.005, evaluations=7, seconds=1.0)
    assert good.trust().trustworthy
    assert good.trust().value("likelihoods") == 7
    for excess, ess, largest, said in (
        (0.006, 500.0, 0.005, "0.006 of the posterior lies above the bound on the weights"),
        (0.0, 399.0, 0.005, "399 effective points"),
        (0.0, 500.0, 0.02, "largest weight 0.02"),
    ):
        trust = RejectionDiagnostics(excess, ess, largest, 1, 1.0).trust()
        assert not trust.trustworthy
        assert len(trust.complaints) == 1
        assert trust.complaints[0].startswith(said)
