"""HMC against exact posteriors and known moments; going on; what it counts; where it refuses."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from arviz_stats.base import array_stats
from exact_helpers import (
    NoDensity,
    Recorder,
    Target,
    by_chain,
    check_mean,
    check_moments,
    densities,
    drawn,
    hmc,
    normal,
    numbers,
    observe,
    standard,
    two_modes,
)
from pydantic import ValidationError
from torch import Tensor

from sbikit import LogDensity, ObservationError, SimulationError, UnsupportedError, Values, draw_seeds
from sbikit.testing import GaussianField, GaussianFieldOptions, GaussianVector
from sbikit_exact.hmc import HMCOptions
from sbikit_exact.hmc.ensemble import Ensemble

SHORT = HMCOptions(warmup=50, draws=50, max_draws=50)
CPU = torch.device("cpu")


# --- exact posteriors -------------------------------------------------------------------------


def test_vector_posteriors_are_exact() -> None:
    simulator = GaussianVector()
    observation = observe(simulator, 5)
    found = drawn(hmc(simulator), observation, 1600, seed=5)
    draws = found.values["theta"]
    exact = simulator.exact_sampler()
    sd = exact.covariance.diagonal().sqrt()
    assert len(found) == 5
    for b, trust in enumerate(found.trust):
        assert trust.trustworthy
        assert trust.value("share of divergent transitions") == 0
        mean = exact.mean(observation)[b]
        check_moments(draws[:, b], mean, sd)
        check_mean(((draws[:, b] - mean) / sd).prod(-1), float(exact.covariance[0, 1] / sd.prod()))


def test_field_posteriors_are_exact() -> None:
    simulator = GaussianField(GaussianFieldOptions(size=8))
    observation = observe(simulator, 2)
    sampler = hmc(simulator, HMCOptions(warmup=150, draws=400))
    draws = drawn(sampler, observation, 1600, seed=6)
    assert all(trust.trustworthy for trust in draws.trust)
    exact = drawn(simulator.exact_sampler(), observation, 20_000, seed=7)
    for name in ("theta", "field"):
        for b in range(2):
            found, expected = (one.values[name][:, b].flatten(1) for one in (draws, exact))
            sd = expected.std(0)
            ess = torch.tensor([float(array_stats.ess(by_chain(c))) for c in found.T])
            error = (1 / ess + 1 / 20_000).sqrt()
            score = (found.mean(0) - expected.mean(0)) / sd / error
            # Of up to 64 scores none should pass 4.5, and their mean square should be near 1.
            assert score.abs().max() < 4.5
            assert score.square().mean() < 1 + 4.5 * math.sqrt(2 / len(ess)) + 0.1
            # Paths beyond the far side make draws worth more than one for a mean and less for a variance.
            squares = (found - found.mean(0)).square()
            worth = torch.tensor([float(array_stats.ess(by_chain(c), method="mean")) for c in squares.T])
            spread = (found.std(0) / sd - 1) / (0.5 / worth.clamp_max(1600) + 0.5 / 20_000).sqrt()
            assert spread.abs().max() < 4.5
            assert spread.square().mean() < 1 + 4.5 * math.sqrt(2 / len(ess)) + 0.1


def test_log_gamma_and_banana_have_their_moments() -> None:
    """z0 = log of a Gamma(x) variable; z1 ~ N(0, 1); z2 given z1 ~ N((z1^2 - 1) / 4, 1/2)."""

    def log_prob(z: Tensor, x: Tensor) -> Tensor:
        gamma = x * z[..., 0] - z[..., 0].exp()
        bend = z[..., 2] - 0.25 * (z[..., 1] ** 2 - 1)
        return gamma - 0.5 * z[..., 1] ** 2 - bend**2

    shapes = torch.tensor([3.0, 9.0], dtype=torch.float64)
    sampler = hmc(Target(log_prob, 3), HMCOptions(draws=800))
    found = drawn(sampler, numbers(3.0, 9.0), 3200, seed=1)
    draws = found.values["theta"]
    for b, trust in enumerate(found.trust):
        assert trust.trustworthy
        mean = torch.tensor([float(torch.digamma(shapes[b])), 0.0, 0.0])
        variance = torch.tensor([float(torch.polygamma(1, shapes[b])), 1.0, 0.625])
        check_moments(draws[:, b], mean, variance.sqrt())
        z1, z2 = draws[:, b, 1:].T
        check_mean(z2 * (z1**2 - 1), 0.5)
        check_mean(draws[:, b, 0].exp(), float(shapes[b]))


def test_scales_are_learned_for_each_observation() -> None:
    """After warm-up, a correlated posterior 100 times narrower costs few gradients more than a wide one.

    Some, because the variance that scales have at the least is not small beside 0.01^2; without scales of its
    own it would cost 100 times as many.
    """

    def log_prob(z: Tensor, x: Tensor) -> Tensor:
        y = (z - 0.3) / x[:, None]
        return standard(torch.stack([y[..., 0], (y[..., 1] - 0.9 * y[..., 0]) / math.sqrt(0.19)], -1))

    density_of = densities(Target(log_prob), numbers(1.0, 0.01))
    chains = Ensemble(density_of, HMCOptions(warmup=100, path=2.0, target_accept=0.8), [1, 2], CPU)
    chains.warm_up(lambda done: None)
    before = chains.gradients.clone()
    draws = chains.run(400, lambda done: None).z.transpose(1, 2).transpose(0, 1).flatten(1, 2)
    for x, sd in zip(draws, (1.0, 0.01), strict=True):
        check_moments(x, torch.full((2,), 0.3), torch.full((2,), sd))
        check_mean(((x - 0.3) / sd).prod(-1), 0.9)
    wide, narrow = (chains.gradients - before).tolist()
    assert narrow < 12 * wide


@pytest.mark.parametrize("spoiled", [0.0, 1.0])
def test_a_gradient_that_is_only_near_costs_acceptance_and_nothing_else(spoiled: float) -> None:
    """Chains follow it, in float32, and accept by the density: the draws are exact whatever it is."""

    class Steered(Target):
        def log_density(self, observation: Values) -> LogDensity:
            x = observation["x"][:, 0]

            def gradient(z: Tensor) -> Tensor:
                assert z.dtype == torch.float32
                return (x[:, None] - z) * (1.0 + spoiled * torch.sin(5.0 * z.flip(-1)))

            return replace(super().log_density(observation), gradient=gradient)

    sampler = hmc(Steered(normal), HMCOptions(draws=1500, max_draws=1500))
    found = drawn(sampler, numbers(0.7, -2.0), 6000, seed=3)
    for b, x in enumerate((0.7, -2.0)):
        check_moments(found.values["theta"][:, b], torch.full((2,), x), torch.ones(2))
    # The alarm rings: following what is spoiled takes more steps.
    exact = hmc(Target(normal), HMCOptions(draws=1500, max_draws=1500))
    straight = drawn(exact, numbers(0.7, -2.0), 6000, seed=3)
    more = found.trust[0].value("gradients") / straight.trust[0].value("gradients")
    assert more > 1.3 if spoiled else more == pytest.approx(1.0, rel=0.02)


# --- going on ---------------------------------------------------------------------------------


def test_only_what_cannot_be_trusted_goes_on() -> None:
    """Two far modes beside a normal: one stops, the other ends without trust at the limit."""
    monitor = Recorder()
    sampler = hmc(Target(two_modes), HMCOptions(warmup=60, draws=401, max_draws=1000), monitor)
    found = drawn(sampler, numbers(0.0, 3.0, 0.0), 1605, seed=0)
    assert [trust.trustworthy for trust in found.trust] == [True, False, True]
    # 1605 draws need 402 of a chain.
    draws_made = [trust.value("transitions") for trust in found.trust]
    assert draws_made[1] == 4 * 1000 > max(draws_made[0], draws_made[2])
    assert 4 * 402 in draws_made
    assert found.trust[1].value("R-hat") > 1.5
    assert len(monitor.lines) == 1
    assert "do not trust the draws for 1 of 3 observations" in monitor.lines[0]
    assert "R-hat up to" in monitor.lines[0]
    assert "max_draws" in monitor.lines[0]
    assert monitor.done == monitor.total
    # No draw twice, but where a transition was turned down.
    assert len(found.values["theta"][:, 1].unique(dim=0)) > 1200


def test_slow_chains_go_on_until_they_are_trusted() -> None:
    """The draws that are returned come from the whole of a run that went on."""

    sampler = hmc(Target(normal), HMCOptions(draws=50, max_draws=3200, path=0.6))
    found = drawn(sampler, numbers(0.0), 200, seed=0)
    draws = found.values["theta"][:, 0]
    assert found.trust[0].trustworthy
    assert found.trust[0].value("transitions") > 4 * 200
    # Neighbours among the 200 are 16 or more transitions apart.
    chains = draws.reshape(4, 50, 2)
    correlation = (chains[:, 1:] * chains[:, :-1]).mean() / chains.square().mean()
    assert abs(correlation) < 4 / math.sqrt(400)
    assert (draws.std(0) - 1).abs().max() < 4 / math.sqrt(2 * 200)


def test_many_complaints_are_one_line() -> None:
    monitor = Recorder()
    sampler = hmc(Target(two_modes), SHORT, monitor)
    drawn(sampler, numbers(*[6.0] * 9), 10, seed=0)
    assert len(monitor.lines) == 1
    assert "9 of 9" in monitor.lines[0]


def test_trusted_chains_need_no_words() -> None:
    monitor = Recorder()
    drawn(hmc(GaussianVector(), HMCOptions(), monitor), observe(GaussianVector(), 2), 10, seed=0)
    assert monitor.lines == []


# --- diagnostics and progress -----------------------------------------------------------------


def test_diagnostics_count_what_was_done() -> None:
    calls = 0

    def counted(z: Tensor, x: Tensor) -> Tensor:
        nonlocal calls
        calls += z.requires_grad * z[..., 0].numel()
        return normal(z, x)

    sampler = hmc(Target(counted), HMCOptions(warmup=100, draws=200, max_draws=200))
    (trust,) = drawn(sampler, numbers(0.5), 10, seed=0).trust
    assert trust.value("gradients") == calls > 4 * 300
    assert trust.value("transitions") == 4 * 200
    assert 0 < trust.value("seconds") < 60
    # 1 for a normal posterior whose energy is drawn anew by the momenta alone.
    assert 0.5 < trust.value("E-BFMI") < 2


def test_progress_counts_every_transition() -> None:
    monitor = Recorder()
    drawn(hmc(GaussianVector(), replace_chains(SHORT, 32), monitor), observe(GaussianVector(), 5), 10, seed=0)
    assert monitor.total == monitor.done == 5 * 32 * 100


def replace_chains(options: HMCOptions, chains: int) -> HMCOptions:
    """With 32 chains, no more than two observations make a batch."""
    return options.model_copy(update={"chains": chains})


# --- where there is no density ----------------------------------------------------------------


def test_starts_avoid_where_the_density_is_not_finite() -> None:
    """Nine of ten starts fail; what is not finite is never visited and counts as a divergence."""

    def log_prob(z: Tensor, x: Tensor) -> Tensor:
        return torch.where(z[..., 0] > -1.28, torch.nan, standard(z + 2))

    sampler = hmc(Target(log_prob), SHORT)
    found = drawn(sampler, numbers(0.0), 200, seed=0)
    assert found.values["theta"][..., 0].max() <= -1.28
    assert found.trust[0].value("share of divergent transitions") > 0


@pytest.mark.parametrize("nothing", [torch.nan, -torch.inf, torch.inf])
def test_a_density_that_is_nowhere_finite_is_reported(nothing: float) -> None:
    sampler = hmc(Target(lambda z, x: standard(z) * 0 + nothing), SHORT)
    with pytest.raises(SimulationError, match="not finite at any of 100 starts"):
        drawn(sampler, numbers(0.0), 10, seed=0)


def test_a_gradient_that_is_nowhere_finite_is_reported() -> None:
    sampler = hmc(Target(lambda z, x: (z * 0).sum(-1).sqrt()), SHORT)
    with pytest.raises(SimulationError, match="not finite at any of 100 starts"):
        drawn(sampler, numbers(0.0), 10, seed=0)


def test_what_is_not_finite_spoils_no_neighbour() -> None:
    def log_prob(z: Tensor, x: Tensor) -> Tensor:
        return torch.where((z[..., 0] > 1.0) & (x > 0), torch.nan, standard(z))

    sampler = hmc(Target(log_prob), SHORT)
    clean = drawn(sampler, numbers(0.0, 0.0, 0.0, 0.0), 40, seed=0).values["theta"]
    beside = drawn(sampler, numbers(0.0, 1.0, 0.0, 0.0), 40, seed=0)
    torch.testing.assert_close(beside.values["theta"][:, 0], clean[:, 0], rtol=0.0, atol=1e-6)
    assert beside.trust[0].value("share of divergent transitions") == 0
    assert beside.trust[1].value("share of divergent transitions") > 0
    assert not beside.trust[1].trustworthy


# --- refusals ---------------------------------------------------------------------------------


def test_a_simulator_without_log_density_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="NoDensity has no differentiable log density") as caught:
        hmc(NoDensity())
    assert caught.value.where == "sampler 'hmc'"
    assert "log_density" in caught.value.fix


def test_a_density_that_cannot_be_made_is_reported() -> None:
    class Broken(GaussianVector):
        def log_density(self, observation: Values) -> LogDensity:
            raise ZeroDivisionError("no noise")

    with pytest.raises(SimulationError, match="ZeroDivisionError: no noise"):
        drawn(hmc(Broken(), SHORT), observe(GaussianVector(), 1), 10, seed=0)


def test_chains_must_come_in_pairs() -> None:
    """The halves of the draws would share one."""
    with pytest.raises(ValidationError, match="multiple of 2"):
        HMCOptions(chains=3)


def test_the_most_draws_are_no_fewer_than_the_least() -> None:
    with pytest.raises(ValidationError, match=r"max_draws \(100\) must be at least draws \(600\)"):
        HMCOptions(draws=600, max_draws=100)


@pytest.mark.parametrize(
    ("observation", "message"),
    [
        ({}, "missing or has the wrong shape"),
        ({"x": torch.zeros(2, 4)}, "missing or has the wrong shape"),
        ({"x": torch.full((1, 3), torch.nan)}, "not finite"),
    ],
)
def test_an_observation_that_does_not_fit_is_refused(observation: Values, message: str) -> None:
    with pytest.raises(ObservationError, match=message):
        hmc(GaussianVector(), SHORT).sample(observation, 10, seeds=draw_seeds(0, "test", 0, 1))


def test_every_observation_needs_a_seed() -> None:
    with pytest.raises(ObservationError, match="a seed of its own"):
        hmc(GaussianVector(), SHORT).sample(observe(GaussianVector(), 2), 10, seeds=np.array([1]))
