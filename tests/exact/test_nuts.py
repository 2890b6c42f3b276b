"""NUTS against exact posteriors, its seeds and order, and its refusals."""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
from arviz_stats.base import array_stats
from exact_helpers import Calling, NoDensity, Recorder, by_chain, drawn, observe
from pydantic import ValidationError
from torch import Tensor

from sbikit import (
    LogDensity,
    Monitor,
    ObservationError,
    PluginError,
    QuietMonitor,
    SimulationError,
    Simulator,
    UnsupportedError,
    Values,
    draw_seeds,
)
from sbikit.testing import GaussianField, GaussianFieldOptions, GaussianVector, check_sampler
from sbikit_exact.chains import chain_sizes
from sbikit_exact.nuts import NUTS, NUTSOptions, NUTSSampler
from sbikit_exact.nuts.lockstep import Lockstep

SHORT = NUTSOptions(warmup=100, draws=100)


def nuts(
    simulator: Simulator, options: NUTSOptions | None = None, monitor: Monitor | None = None
) -> NUTSSampler:
    return NUTS(options).posterior(simulator, monitor=monitor or QuietMonitor())


class Altered(GaussianVector):
    """The toy with its log density sent through `change(z, value)`."""

    def __init__(self, change: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.change = change

    def log_density(self, observation: Values) -> LogDensity:
        density = super().log_density(observation)
        return LogDensity(density.size, lambda z: self.change(z, density.log_prob(z)), density.decode)


# --- exact posteriors -------------------------------------------------------------------------


def test_vector_posterior_is_exact() -> None:
    simulator = GaussianVector()
    observation = observe(simulator, 2)
    sampler = nuts(simulator, NUTSOptions(warmup=300, draws=600))
    found = drawn(sampler, observation, 2400, seed=5)
    draws = found.values["theta"]
    exact = simulator.exact_sampler()
    sd = exact.covariance.diagonal().sqrt()
    for b, trust in enumerate(found.trust):
        assert trust.trustworthy
        assert trust.value("share of divergent transitions") == 0
        ess = torch.tensor([float(array_stats.ess(by_chain(x), method="bulk")) for x in draws[:, b].T])
        assert float(ess.min()) == pytest.approx(trust.value("bulk ESS"), rel=1e-4)
        # 4 standard errors: of a mean sd / sqrt(ESS), of a standard deviation sd / sqrt(2 ESS).
        error = (draws[:, b].mean(0) - exact.mean(observation)[b]) / sd
        assert (error.abs() < 4 / ess.sqrt()).all()
        assert ((draws[:, b].std(0) / sd - 1).abs() < 4 / (2 * ess).sqrt()).all()
        correlation = torch.corrcoef(draws[:, b].T)[0, 1]
        expected = exact.covariance[0, 1] / sd.prod()
        assert abs(correlation - expected) < 4 / math.sqrt(trust.value("bulk ESS"))


def test_field_posterior_is_exact() -> None:
    simulator = GaussianField(GaussianFieldOptions(size=8))
    observation = observe(simulator, 1)
    sampler = nuts(simulator, NUTSOptions(warmup=300, draws=500))
    draws = drawn(sampler, observation, 2000, seed=6)
    assert draws.trust[0].trustworthy
    exact = drawn(simulator.exact_sampler(), observation, 20_000, seed=7)
    for name in ("theta", "field"):
        found, expected = (one.values[name].flatten(1) for one in (draws, exact))
        sd = expected.std(0)
        ess = torch.tensor([float(array_stats.ess(by_chain(column))) for column in found.T])
        mean_score = (found.mean(0) - expected.mean(0)) / sd * ess.sqrt()
        # Of up to 64 scores, none should pass 4.5 and their mean square should be near 1.
        assert mean_score.abs().max() < 4.5
        assert mean_score.square().mean() < 1 + 4.5 * math.sqrt(2 / len(ess)) + 0.1
        assert ((found.std(0) / sd - 1) * (2 * ess.clamp_max(2000)).sqrt()).abs().max() < 4.5


def test_spoiled_chains_are_not_trusted() -> None:
    """Two modes 12 sd apart, which no chain can cross."""

    def two_modes(z: Tensor, value: Tensor) -> Tensor:
        return value * 0 + torch.logaddexp(
            -0.5 * ((z - 6) ** 2).sum(-1) / 0.25, -0.5 * ((z + 6) ** 2).sum(-1) / 0.25
        )

    monitor = Recorder()
    sampler = nuts(Altered(two_modes), SHORT, monitor)
    (trust,) = drawn(sampler, observe(GaussianVector(), 1), 100, seed=0).trust
    assert trust.value("R-hat") > 1.5
    assert not trust.trustworthy
    assert "do not trust" in monitor.lines[0]


def test_keeps_the_contract() -> None:
    simulator = GaussianVector()
    check_sampler(nuts(simulator, NUTSOptions(warmup=50, draws=50)), observe(simulator, 2))


# --- seeds, batches, order --------------------------------------------------------------------


def test_draws_depend_on_observation_and_seed_alone() -> None:
    simulator = GaussianField(GaussianFieldOptions(size=4))
    observation = observe(simulator, 2)
    sampler = nuts(simulator, NUTSOptions(warmup=50, draws=50))
    seeds, second = draw_seeds(1, "test", 0, 2), {"data": observation["data"][1:]}
    both = sampler.sample(observation, 40, seeds=seeds).values
    alone = sampler.sample(second, 40, seeds=seeds[1:]).values
    other = sampler.sample(second, 40, seeds=seeds[:1]).values
    for name in both:
        assert torch.equal(both[name][:, 1:], alone[name])
        assert not torch.equal(other[name], alone[name])


def test_global_state_is_left_alone() -> None:
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    threads = torch.get_num_threads()
    drawn(nuts(GaussianVector(), SHORT), observe(GaussianVector(), 1), 10, seed=0)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    assert torch.get_num_threads() == threads


def test_draws_are_chain_major() -> None:
    """Chains confined to their own octant of white coordinates come back as blocks."""
    wall = Altered(
        lambda z, v: v * 0 + 200 * torch.log((z**2).prod(-1).clamp_min(1e-300)) - 50 * (z**2).sum(-1)
    )
    z = drawn(nuts(wall, SHORT), observe(wall, 1), 42, seed=4).values["theta"][:, 0]
    white = wall.prior.to_white(z)
    assert chain_sizes(42, 4) == (11, 10, 11, 10)
    blocks = white.sign().split(chain_sizes(42, 4))
    assert all((block == block[0]).all() for block in blocks)
    assert len({tuple(block[0].tolist()) for block in blocks}) > 1


@pytest.mark.parametrize("n", [1, 3, 400, 402])
def test_any_number_of_draws(n: int) -> None:
    draws = drawn(nuts(GaussianVector(), SHORT), observe(GaussianVector(), 1), n, seed=0).values["theta"]
    assert draws.shape == (n, 1, 2)
    assert draws.dtype == torch.float32


def test_more_draws_than_asked_for_lengthen_the_chains() -> None:
    sampler = nuts(GaussianVector(), SHORT)
    (trust,) = drawn(sampler, observe(GaussianVector(), 1), 1000, seed=0).trust
    assert trust.value("transitions") == 1000


def test_halves_of_the_draws_come_from_different_chains() -> None:
    """The second half of 100 draws of four chains is that of the last two chains alone."""
    sampler = nuts(GaussianVector(), SHORT)
    observation = observe(GaussianVector(), 1)
    whole = drawn(sampler, observation, 400, seed=0).values["theta"]
    few = drawn(sampler, observation, 100, seed=0).values["theta"]
    assert all((draw == whole[:200]).all((-2, -1)).any() for draw in few[:50])
    assert all((draw == whole[200:]).all((-2, -1)).any() for draw in few[50:])


def test_diagnostics_count_what_was_done() -> None:
    calls = 0

    def counted(z: Tensor, value: Tensor) -> Tensor:
        nonlocal calls
        calls += value.numel()
        return value

    sampler = nuts(Altered(counted), SHORT)
    (trust,) = drawn(sampler, observe(GaussianVector(), 1), 10, seed=0).trust
    assert trust.value("gradients") == calls
    assert trust.value("gradients") > 4 * 200
    assert trust.value("transitions") == 4 * 100
    assert trust.value("seconds") > 0
    # 1 for a normal posterior whose energy is drawn anew by the momenta alone.
    assert 0.5 < trust.value("E-BFMI") < 2


def test_progress_counts_every_transition() -> None:
    monitor = Recorder()
    drawn(nuts(GaussianVector(), SHORT, monitor), observe(GaussianVector(), 2), 10, seed=0)
    assert monitor.total == monitor.done == 2 * 4 * 200


# --- refusals ---------------------------------------------------------------------------------


def test_a_simulator_without_log_density_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="NoDensity has no differentiable log density") as caught:
        nuts(NoDensity())
    assert "log_density" in caught.value.fix
    assert "npe" in caught.value.fix


def test_an_odd_number_of_chains_is_refused() -> None:
    """Its halves would share a chain."""
    with pytest.raises(ValidationError, match="multiple of 2"):
        NUTSOptions(chains=3)


def test_missing_nutpie_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nutpie", None)
    with pytest.raises(PluginError, match="nutpie") as caught:
        nuts(GaussianVector())
    assert caught.value.fix == "pip install 'sbikit[nuts]'"


def test_an_answer_costs_nothing_but_the_gradient() -> None:
    # A product over 10,000 coordinates would wake threads of BLAS, which spin longer than a gradient takes.
    class Watched(np.ndarray):  # type: ignore[type-arg]
        def __neg__(self) -> np.ndarray:  # type: ignore[type-arg]
            raise AssertionError("the answer for stopped chains was made for one that goes on")

    density = Lockstep(lambda z: -0.5 * z.square().sum(-1), 1)
    value, gradient = density(np.arange(3.0).view(Watched))
    assert value == -2.5
    np.testing.assert_array_equal(gradient, [0.0, -1.0, -2.0])
    density.stop(ValueError())
    value, gradient = density(np.arange(3.0))
    assert value == -2.5
    np.testing.assert_array_equal(gradient, [0.0, -1.0, -2.0])


def test_a_density_that_raises_is_reported_without_a_hang() -> None:
    calls = 0

    def change(z: Tensor, value: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls > 200:
            raise ValueError("no such spectrum")
        return value

    threads = threading.active_count()
    with pytest.raises(SimulationError, match="ValueError: no such spectrum"):
        drawn(nuts(Altered(change), SHORT), observe(GaussianVector(), 1), 10, seed=0)
    assert threading.active_count() == threads


def test_a_density_that_is_nowhere_finite_is_reported() -> None:
    sampler = nuts(Altered(lambda z, value: value * torch.nan), SHORT)
    with pytest.raises(SimulationError, match="not finite at any of 100 draws"):
        drawn(sampler, observe(GaussianVector(), 1), 10, seed=0)


def test_starts_avoid_where_the_density_is_not_finite() -> None:
    """Nine of ten starts fail; what is not finite is never visited and counts as a divergence."""
    sampler = nuts(Altered(lambda z, value: torch.where(z[..., 0] > -1.28, torch.nan, value)), SHORT)
    found = drawn(sampler, observe(GaussianVector(), 1), 400, seed=0)
    assert GaussianVector.prior.to_white(found.values["theta"])[..., 0].max() <= -1.27
    assert found.trust[0].value("share of divergent transitions") > 0


def test_an_interruption_ends_the_chains() -> None:
    def interrupt(done: int) -> None:
        raise KeyboardInterrupt

    sampler = nuts(GaussianVector(), NUTSOptions(draws=100_000), Calling(interrupt))
    with pytest.raises(KeyboardInterrupt):
        drawn(sampler, observe(GaussianVector(), 1), 10, seed=0)
    assert torch.isfinite(
        drawn(nuts(GaussianVector(), SHORT), observe(GaussianVector(), 1), 10, seed=0).values["theta"]
    ).all()


@pytest.mark.parametrize(
    ("observation", "message"),
    [
        ({}, "missing or has the wrong shape"),
        ({"x": torch.zeros(2, 4)}, "missing or has the wrong shape"),
        ({"x": torch.tensor(0.0)}, "missing or has the wrong shape"),
        ({"x": torch.full((1, 3), torch.nan)}, "not finite"),
    ],
)
def test_an_observation_that_does_not_fit_is_refused(observation: Values, message: str) -> None:
    with pytest.raises(ObservationError, match=message):
        nuts(GaussianVector(), SHORT).sample(observation, 10, seeds=draw_seeds(0, "test", 0, 1))
