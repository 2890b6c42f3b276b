"""Mixtures, laws of scipy and torch, and laws of draws, beside scipy and mpmath."""

from __future__ import annotations

import math
from typing import Any

import mpmath as mp
import numpy as np
import pytest
import scipy.stats
import torch
from torch import distributions

from sbikit import (
    FromDraws,
    FromScipy,
    FromTorch,
    Law,
    LogNormal,
    Mixture,
    Normal,
    Prior,
    SpecError,
    TruncatedNormal,
    Uniform,
    UnsupportedError,
)

WHITE = torch.tensor([-7.0, -4.0, -1.0, -0.1, 0.0, 0.1, 1.0, 4.0, 7.0], dtype=torch.float64)
RNG = np.random.default_rng(3)
CHAIN = scipy.stats.gamma(3.0).rvs(20_000, random_state=RNG)

LAWS: dict[str, Law] = {
    "mixture": Mixture([Normal(-2.0, 0.5), Normal(1.0, 2.0)], [1.0, 3.0]),
    "mixture of bounded": Mixture([Uniform(0.0, 1.0), TruncatedNormal(1.5, 0.3, 0.5, 2.0)], [0.4, 0.6]),
    "mixture of scales": Mixture([LogNormal(1.0, 0.1), LogNormal(3.0, 1.0)], [0.5, 0.5]),
    "gamma of scipy": FromScipy(scipy.stats.gamma(2.0, scale=3.0)),
    "beta of scipy": FromScipy(scipy.stats.beta(2.0, 5.0, loc=-1.0, scale=4.0)),
    "gamma of torch": FromTorch(distributions.Gamma(2.0, 0.5)),
    "beta of torch": FromTorch(distributions.Beta(torch.tensor(2.0), torch.tensor(5.0))),
    "gumbel of torch": FromTorch(distributions.Gumbel(1.0, 2.0)),
    "laplace of torch": FromTorch(distributions.Laplace(1.0, 2.0)),
    "weibull of torch": FromTorch(distributions.Weibull(2.0, 1.5)),
    "half of torch": FromTorch(distributions.HalfNormal(2.0)),
    "draws": FromDraws(RNG.standard_normal(5000)),
    "draws above 0": FromDraws(CHAIN, low=0.0),
    "draws below 0": FromDraws(-CHAIN, high=0.0),
    "draws between": FromDraws(scipy.stats.beta(0.8, 2.0).rvs(20_000, random_state=RNG), low=0.0, high=1.0),
}


@pytest.mark.parametrize("law", LAWS.values(), ids=list(LAWS))
def test_a_law_keeps_its_contract(law: Law) -> None:
    """It rises, returns, and its density is the derivative of its distribution function, to the tails."""
    z = torch.linspace(-6.0, 6.0, 241, dtype=torch.float64)
    x = law.from_white(z)
    assert bool((x.diff() > 0).all())
    assert bool(((x >= law.low) & (x <= law.high)).all())
    inner = z.abs() < 5.5
    torch.testing.assert_close(law.to_white(x)[inner], z[inner], rtol=0, atol=3e-4)
    inner = z.abs() < 4.0
    torch.testing.assert_close(law.to_white(x)[inner], z[inner], rtol=0, atol=1e-7)
    log_white = torch.from_numpy(scipy.stats.norm.logpdf(z))
    step = 1e-5
    slope = (law.from_white(z + step) - law.from_white(z - step)) / (2 * step)
    assert torch.allclose((log_white - law.log_density(x))[inner], slope.log()[inner], atol=3e-4)
    at = z[inner].clone().requires_grad_()
    (found,) = torch.autograd.grad(law.from_white(at).sum(), at)
    torch.testing.assert_close(found.log(), (log_white - law.log_density(x))[inner], rtol=0, atol=1e-7)
    there = x[inner].detach().requires_grad_()
    (back,) = torch.autograd.grad(law.to_white(there).sum(), there)
    torch.testing.assert_close(back * found, torch.ones_like(back), rtol=1e-4, atol=0)
    some = torch.tensor([71, 95, 125, 149])
    middle, width = x[some].detach().requires_grad_(), 1e-3 * (x[some + 1] - x[some - 1])
    (rise,) = torch.autograd.grad(law.log_density(middle).sum(), middle)
    ends = law.log_density(middle.detach() + width) - law.log_density(middle.detach() - width)
    torch.testing.assert_close(rise * width, ends / 2, rtol=0.01, atol=1e-6)


def test_a_mixture_is_right_to_fifteen_digits_in_its_tails() -> None:
    """Beside 60 digits of mpmath: of its distribution function below, of what is left above."""
    law = Mixture([Normal(-2.0, 0.5), Normal(1.0, 2.0)], [1.0, 3.0])

    def below(x: float) -> mp.mpf:
        return mp.mpf(1) / 4 * mp.ncdf((mp.mpf(x) + 2) * 2) + mp.mpf(3) / 4 * mp.ncdf((mp.mpf(x) - 1) / 2)

    def above(x: float) -> mp.mpf:
        return mp.mpf(1) / 4 * mp.ncdf(-(mp.mpf(x) + 2) * 2) + mp.mpf(3) / 4 * mp.ncdf(-(mp.mpf(x) - 1) / 2)

    for z, x in zip(WHITE.tolist(), law.from_white(WHITE).tolist(), strict=True):
        found, wanted = (below(x), mp.ncdf(z)) if z < 0 else (above(x), mp.ncdf(-z))
        assert abs(float(found / wanted - 1)) < 1e-13
        assert float(law.to_white(torch.tensor(x, dtype=torch.float64))) == pytest.approx(z, abs=1e-13)


def test_draws_of_a_mixture_are_those_of_scipy() -> None:
    parts = [scipy.stats.norm(-2.0, 0.5), scipy.stats.norm(1.0, 2.0)]
    law = LAWS["mixture"]
    rows = law.from_white(torch.from_numpy(RNG.standard_normal(20_000))).numpy()
    found = scipy.stats.kstest(rows, lambda x: 0.25 * parts[0].cdf(x) + 0.75 * parts[1].cdf(x))
    assert found.pvalue > 1e-3


@pytest.mark.parametrize(
    ("law", "theirs"),
    [
        (LAWS["gamma of scipy"], scipy.stats.gamma(2.0, scale=3.0)),
        (LAWS["gamma of torch"], scipy.stats.gamma(2.0, scale=2.0)),
        (LAWS["beta of torch"], scipy.stats.beta(2.0, 5.0)),
        (FromTorch(distributions.Chi2(3.0)), scipy.stats.chi2(3.0)),
        (FromTorch(distributions.StudentT(4.0, 1.0, 2.0)), scipy.stats.t(4.0, 1.0, 2.0)),
        (FromTorch(distributions.InverseGamma(3.0, 2.0)), scipy.stats.invgamma(3.0, scale=2.0)),
        (FromTorch(distributions.FisherSnedecor(5.0, 9.0)), scipy.stats.f(5.0, 9.0)),
        (LAWS["gumbel of torch"], scipy.stats.gumbel_r(1.0, 2.0)),
        (LAWS["laplace of torch"], scipy.stats.laplace(1.0, 2.0)),
        (LAWS["weibull of torch"], scipy.stats.weibull_min(1.5, scale=2.0)),
        (FromTorch(distributions.Normal(1.0, 2.0)), scipy.stats.norm(1.0, 2.0)),
        (FromTorch(distributions.Exponential(2.0)), scipy.stats.expon(scale=0.5)),
        (FromTorch(distributions.Pareto(1.0, 4.0)), scipy.stats.pareto(4.0)),
    ],
)
def test_quantiles_and_densities_are_those_of_scipy(law: Law, theirs: Any) -> None:
    z = torch.tensor([-4.0, -1.0, 0.0, 1.0, 4.0], dtype=torch.float64)
    x = law.from_white(z).numpy()
    np.testing.assert_allclose(x, theirs.ppf(scipy.stats.norm.cdf(z.numpy())), rtol=1e-6)
    np.testing.assert_allclose(law.log_density(torch.from_numpy(x)).numpy(), theirs.logpdf(x), rtol=1e-6)


@pytest.mark.parametrize(
    ("draws", "words", "theirs"),
    [
        (CHAIN, {"low": 0.0}, scipy.stats.gamma(3.0)),
        (CHAIN, {}, scipy.stats.gamma(3.0)),
        (5.0 - CHAIN, {"high": 5.0}, None),
    ],
)
def test_a_law_of_draws_is_near_that_which_they_are_of(draws: Any, words: Any, theirs: Any) -> None:
    """As near as so many draws can tell: a KS distance of 1.6 / sqrt(20,000) is one in a hundred."""
    law = FromDraws(draws, **words)
    new = law.from_white(torch.from_numpy(RNG.standard_normal(20_000))).numpy()
    if theirs is not None:
        assert scipy.stats.kstest(new, theirs.cdf).statistic < 0.013
    assert scipy.stats.ks_2samp(new, draws).statistic < 0.015


@pytest.mark.parametrize(
    "make",
    [
        lambda: Mixture([Normal(0.0, 1.0)], [1.0]),
        lambda: Mixture([Normal(0.0, 1.0), Normal(1.0, 1.0)], [1.0]),
        lambda: Mixture([Normal(0.0, 1.0), Normal(1.0, 1.0)], [1.0, -0.5]),
        lambda: FromScipy(scipy.stats.poisson(3.0)),
        lambda: FromScipy(scipy.stats.norm),
        lambda: FromScipy(scipy.stats.norm([0.0, 1.0], 1.0)),
        lambda: FromScipy(3.0),
        lambda: FromDraws(np.zeros(500)),
        lambda: FromDraws(CHAIN[:50]),
        lambda: FromDraws([*CHAIN, math.nan]),
        lambda: FromDraws(CHAIN, low=1.0),
        lambda: FromDraws(RNG.integers(0, 3, 900)),
    ],
)
def test_what_makes_no_law_is_refused(make: Any) -> None:
    with pytest.raises(SpecError):
        make()


@pytest.mark.parametrize(
    "distribution",
    [
        distributions.Poisson(3.0),
        distributions.Bernoulli(0.3),
        distributions.MultivariateNormal(torch.zeros(2), torch.eye(2)),
        distributions.Normal(torch.zeros(2), 1.0),
        distributions.VonMises(0.0, 1.0),
        distributions.Dirichlet(torch.ones(3)),
    ],
)
def test_what_is_no_continuous_law_of_one_number_is_refused(distribution: Any) -> None:
    with pytest.raises(UnsupportedError):
        FromTorch(distribution)


# --- priors of several parameters that depend on each other -------------------------------------

MEAN = {"a": 1.0, "b": -2.0, "c": 0.5}
COVARIANCE = np.array([[1.0, 0.6, -0.2], [0.6, 2.0, 0.1], [-0.2, 0.1, 0.5]])


def test_a_joint_normal_prior_is_that_of_scipy() -> None:
    prior = Prior.normal(MEAN, COVARIANCE)
    theirs = scipy.stats.multivariate_normal(list(MEAN.values()), COVARIANCE)
    x = theirs.rvs(50, random_state=RNG)
    np.testing.assert_allclose(prior.log_prob(torch.from_numpy(x)).numpy(), theirs.logpdf(x), rtol=1e-10)
    rows = prior.sample(np.arange(40_000))["theta"].double().numpy()
    error = np.sqrt(np.diag(COVARIANCE) / 40_000)
    assert (np.abs(rows.mean(0) - list(MEAN.values())) < 4.5 * error).all()
    np.testing.assert_allclose(np.cov(rows.T), COVARIANCE, atol=0.04)
    z = prior.to_white(torch.from_numpy(x))
    torch.testing.assert_close(prior.from_white(z), torch.from_numpy(x), rtol=1e-12, atol=1e-12)


def test_correlated_laws_of_any_kind_have_a_density_that_integrates_to_one() -> None:
    prior = Prior({"a": Uniform(0.0, 1.0), "b": LogNormal(1.0, 0.5)}, correlation={("a", "b"): 0.7})
    z = torch.from_numpy(RNG.standard_normal((20_000, 2)))
    theta = prior.from_white(z)
    assert scipy.stats.spearmanr(*theta.numpy().T).statistic == pytest.approx(
        6 / math.pi * math.asin(0.35),
        abs=0.02,  # of a Gaussian copula
    )
    for column, law in zip(theta.T, prior.laws.values(), strict=True):
        assert scipy.stats.kstest(law.to_white(column).numpy(), "norm").pvalue > 1e-3
    a, b = np.linspace(0.0005, 0.9995, 1000), np.exp(np.linspace(-3, 3, 1201))
    grid = torch.from_numpy(np.stack(np.meshgrid(a, b, indexing="ij"), -1))
    density = prior.log_prob(grid).exp().numpy()
    assert np.trapezoid(density, b, axis=1).sum() * 1e-3 == pytest.approx(1.0, abs=2e-3)
    np.testing.assert_allclose(prior.to_white(theta).numpy(), z.numpy(), atol=1e-6)


def test_what_lies_outside_of_a_correlated_prior_is_impossible() -> None:
    prior = Prior({"a": Uniform(0.0, 1.0), "b": Uniform(0.0, 1.0)}, correlation=[[1.0, 0.5], [0.5, 1.0]])
    theta = torch.tensor([[0.5, 1.5], [-1.0, 0.5], [2.0, 2.0], [0.5, 0.5]], dtype=torch.float64)
    assert prior.log_prob(theta).isinf().tolist() == [True, True, True, False]
    z = prior.to_white(theta)
    assert z.isinf().tolist() == [[False, True], [True, False], [True, True], [False, False]]
    assert not z.isnan().any()


def test_without_correlations_all_is_as_before() -> None:
    laws = {"a": Uniform(0.0, 1.0), "b": Normal(0.0, 1.0)}
    plain, told = Prior(laws), Prior(laws, correlation={("a", "b"): 0.0})
    assert told.correlation is None
    seeds = np.arange(100)
    assert torch.equal(plain.sample(seeds)["theta"], told.sample(seeds)["theta"])


@pytest.mark.parametrize(
    "correlation",
    [
        {("a", "z"): 0.5},
        {("a", "a"): 0.5},
        {("a", "b"): 1.0},
        {("a", "b"): 0.5, ("b", "a"): 0.5},
        {("a", "b"): 0.9, ("b", "c"): 0.9, ("a", "c"): -0.9},
        {("a", "b"): math.nan},
        np.eye(2),
        2 * np.eye(3),
        [[1, 0.5, 0], [0, 1, 0], [0, 0, 1]],
    ],
)
def test_correlations_that_cannot_be_are_refused(correlation: Any) -> None:
    laws = {label: Uniform(0.0, 1.0) for label in "abc"}
    with pytest.raises(SpecError):
        Prior(laws, correlation=correlation)


def test_a_covariance_that_is_none_is_refused() -> None:
    for wrong in (np.eye(2), -np.eye(3), np.ones((3, 3))):
        with pytest.raises(SpecError):
            Prior.normal(MEAN, wrong)


def test_a_chain_is_a_prior_for_the_next_measurement() -> None:
    """Marginals and rank correlations of a chain that is correlated and bounded."""
    theirs = scipy.stats.multivariate_normal([0.0, 0.0], [[1.0, -0.8], [-0.8, 1.0]])
    normal = theirs.rvs(20_000, random_state=RNG)
    chain = {"a": np.exp(normal[:, 0]), "b": scipy.stats.norm.cdf(normal[:, 1])}
    prior = Prior.from_draws(chain, bounds={"a": (0.0, math.inf), "b": (0.0, 1.0)})
    rows = prior.from_white(torch.from_numpy(RNG.standard_normal((20_000, 2)))).numpy()
    for drawn, given in zip(rows.T, chain.values(), strict=True):
        assert scipy.stats.ks_2samp(drawn, given).statistic < 0.015
    found, wanted = (scipy.stats.spearmanr(*table).statistic for table in (rows.T, tuple(chain.values())))
    assert found == pytest.approx(wanted, abs=0.015)
    with pytest.raises(SpecError, match="as many draws"):
        Prior.from_draws({"a": chain["a"], "b": chain["b"][:-1]})
