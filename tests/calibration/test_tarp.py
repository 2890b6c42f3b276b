"""TARP: its p-value under the null, against scipy, its band against the binomial, and spoiled posteriors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import stats
from torch import Tensor

from sbikit import Evidence, Report, Simulations, generator
from sbikit.testing import GaussianField, GaussianFieldOptions, Spoiled, gather_evidence
from sbikit_calibration.coverage.distance import ranks
from sbikit_calibration.coverage.tarp import (
    Tarp,
    TarpOptions,
    bootstrap_curves,
    coverage,
    distance_to_uniform,
    null_distances,
    p_value,
)


def _ranks(source: torch.Generator, B: int, S: int, K: int, sd: float = 1.0) -> Tensor:
    """Ranks in two dimensions: truth N(0, sd^2), draws N(0, 1), K correlated centres."""
    y = torch.randn(B, 1, S + 1, 2, generator=source)
    y[:, :, 0] *= sd
    centres = torch.randn(B, 1, 1, 2, generator=source) + 0.5 * torch.randn(B, K, 1, 2, generator=source)
    return ranks((y - centres).square().sum(-1), 0)


def _p(found: Tensor, draws: int, seed: int) -> float:
    each = coverage(found[..., 0], found.shape[-1] - 1)
    statistic = float(distance_to_uniform(each.mean(0)))
    return p_value(statistic, null_distances(found, draws, seed))


def test_coverage_counts_truths_by_level() -> None:
    each = coverage(torch.tensor([[0, 2], [1, 1]]), 3)
    np.testing.assert_allclose(each, [[0.5, 0.5, 1, 1], [0, 1, 1, 1]])
    uniform = coverage(torch.arange(4)[:, None], 3)
    assert float(distance_to_uniform(uniform.mean(0))) == 0.0


@pytest.mark.parametrize("K", [1, 6])
def test_p_values_are_uniform_under_the_null_though_centres_are_correlated(K: int) -> None:
    source = generator(K)
    # 41 observations and 20 levels share no factor, so the statistic hardly ever ties
    found = [_p(_ranks(source, 41, 19, K), 300, seed) for seed in range(300)]
    assert stats.kstest(found, "uniform").pvalue > 0.01


def test_ties_of_the_statistic_make_the_test_cautious_never_rash() -> None:
    source = generator(9)
    found = np.array([_p(_ranks(source, 40, 19, 1), 300, seed) for seed in range(300)])
    for level in (0.05, 0.2, 0.5):
        assert np.mean(found <= level) < level + 3 * (level * (1 - level) / 300) ** 0.5


def test_a_table_for_independent_centres_would_not_be_uniform() -> None:
    """The correlation matters: the null of 6 independent centres refuses exact posteriors far too often."""
    source = generator(0)
    refused = 0
    for _ in range(100):
        flat = _ranks(source, 40, 19, 6)[..., 0].flatten()
        smooth = (flat.double() + torch.rand(len(flat), generator=source)) / 20
        refused += stats.kstest(smooth.numpy(), "uniform").pvalue < 0.05
    assert refused > 15


def test_p_value_of_one_centre_and_many_draws_is_that_of_scipy() -> None:
    source, S = generator(5), 400
    for seed, sd in enumerate((1.0, 1.2, 0.85)):
        found = _ranks(source, 80, S, 1, sd)
        smooth = (found[:, 0, 0].double() + 0.5) / (S + 1)
        expected = stats.kstest(smooth.numpy(), "uniform").pvalue
        assert _p(found, 4000, seed) == pytest.approx(expected, abs=0.03)


def test_p_value_is_never_zero_and_counts_ties() -> None:
    null = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    assert p_value(0.9, null) == 0.25
    assert p_value(0.2, null) == 0.75


def test_band_is_binomial_for_one_centre() -> None:
    found = _ranks(generator(2), 400, 9, 1)
    each = coverage(found[..., 0], 9)
    share = each.mean(0)
    got = bootstrap_curves(each, 0).std(0)
    np.testing.assert_allclose(got[:-1], (share * (1 - share) / 400).sqrt()[:-1], rtol=0.12)


def test_an_alpha_that_no_p_value_can_reach_is_refused() -> None:
    with pytest.raises(ValidationError, match="raise null_draws"):
        TarpOptions(alpha=0.001, null_draws=500)


# --- the validator --------------------------------------------------------------------------

TOY = GaussianField(GaussianFieldOptions(size=8, parameters=1))


def _report(evidence: Evidence) -> Report:
    return Tarp().validate(evidence, seed=0)


def _evidence(shift: float = 0.0, scale: float = 1.0) -> Evidence:
    sampler = Spoiled(TOY.exact_sampler(), shift, scale)
    return gather_evidence(TOY, sampler, observations=250, draws=48, training=500, seed=2)


@pytest.fixture(scope="module")
def exact_report() -> Report:
    return _report(_evidence())


def test_exact_draws_pass_and_their_curves_hold_the_diagonal(exact_report: Report) -> None:
    judged = [m for m in exact_report.metrics if m.name in ("tarp", "tarp_data_centres")]
    assert len(judged) == 6
    assert {m.verdict for m in judged} == {"pass"}
    for curve in exact_report.curves:
        assert curve.x[0] == curve.y[0] == 0.0
        assert curve.x[-1] == curve.y[-1] == 1.0
        assert curve.ideal == curve.x
        low, y, high = (np.array(values) for values in (curve.low, curve.y, curve.high))
        assert np.all(low <= y + 1e-12)
        assert np.all(y <= high + 1e-12)


def test_statistic_of_exact_draws_lies_among_its_ideal(exact_report: Report) -> None:
    for metric in exact_report.metrics:
        if metric.name in ("tarp", "tarp_data_centres"):
            assert metric.ideal is not None
            assert 0.2 * metric.ideal < metric.value < 3.0 * metric.ideal


@pytest.mark.parametrize(
    ("shift", "scale"), [(1.0, 1.0), (0.0, 0.6), (0.0, 1.7)], ids=["moved", "narrow", "wide"]
)
def test_wrong_draws_are_refused_in_every_block(shift: float, scale: float) -> None:
    report = _report(_evidence(shift, scale))
    for block in ("theta", "field", "joint"):
        assert "fail" in {m.verdict for m in report.metrics if m.variable == block}


def test_the_prior_in_the_place_of_the_posterior_is_seen_by_data_centres_alone() -> None:
    evidence = _evidence()
    prior = Simulations(TOY, 99).training(0, 48 * 250)
    draws = {name: prior[name].unflatten(0, (48, 250)) for name in ("theta", "field")}
    report = _report(replace(evidence, draws=draws))
    for block in ("theta", "field", "joint"):
        found = {m.name: m.verdict for m in report.metrics if m.variable == block}
        assert found["tarp"] == "pass"
        assert found["tarp_data_centres"] == "fail"


def test_a_latent_alone_is_judged_without_a_joint() -> None:
    sampler = TOY.exact_sampler()
    sampler.spec = sampler.spec.select("field")
    evidence = gather_evidence(TOY, sampler, observations=40, draws=16, training=60)
    assert {m.variable for m in _report(evidence).metrics} == {"field"}
