"""NUTS against exact posteriors, its seeds and order, and its refusals."""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import pytest
import torch
from arviz_stats.base import array_stats
from pydantic import ValidationError
from recorder import Recorder
from torch import Tensor

from sbikit import (
    LogDensity,
    Normal,
    ObservationError,
    PluginError,
    Prior,
    SimulationError,
    Simulator,
    UnsupportedError,
    Values,
    Vector,
)
from sbikit.simulations.stream import Simulations
from sbikit.testing import GaussianField, GaussianFieldOptions, GaussianVector, QuietMonitor, check_sampler
from sbikit_exact.chains import chain_sizes
from sbikit_exact.lockstep import Lockstep
from sbikit_exact.nuts_sampler import NUTS, NUTSOptions

SHORT = NUTSOptions(warmup=100, draws=100)


def observe(simulator: Simulator, count: int) -> dict[str, Tensor]:
    draws = Simulations(simulator, seed=3).held_out(0, count)
    return {name: draws[name] for name in simulator.observed}


def by_chain(draws: Tensor, chains: int) -> np.ndarray:
    """Chain-major draws (n,) of n divisible by chains -> (chains, n / chains)."""
    return draws.double().reshape(chains, -1).numpy()


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
    sampler = NUTS(simulator, NUTSOptions(warmup=300, draws=600))
    draws = sampler.sample(observation, 2400, seed=5)["theta"]
    exact = simulator.exact_sampler()
    sd = exact.covariance.diagonal().sqrt()
    for b, found in enumerate(sampler.diagnostics):
        assert found.trustworthy
        assert found.divergences == 0
        ess = torch.tensor(found.ess_bulk)
        # 4 standard errors: of a mean sd / sqrt(ESS), of a standard deviation sd / sqrt(2 ESS).
        error = (draws[:, b].mean(0) - exact.mean(observation)[b]) / sd
        assert (error.abs() < 4 / ess.sqrt()).all()
        assert ((draws[:, b].std(0) / sd - 1).abs() < 4 / (2 * ess).sqrt()).all()
        correlation = torch.corrcoef(draws[:, b].T)[0, 1]
        expected = exact.covariance[0, 1] / sd.prod()
        assert abs(correlation - expected) < 4 / math.sqrt(min(found.ess_bulk))


def test_field_posterior_is_exact() -> None:
    simulator = GaussianField(GaussianFieldOptions(size=8))
    observation = observe(simulator, 1)
    sampler = NUTS(simulator, NUTSOptions(warmup=300, draws=500))
    draws = sampler.sample(observation, 2000, seed=6)
    assert sampler.diagnostics[0].trustworthy
    exact = simulator.exact_sampler().sample(observation, 20_000, seed=7)
    for name in ("theta", "field"):
        found, expected = draws[name].flatten(1), exact[name].flatten(1)
        sd = expected.std(0)
        ess = torch.tensor([float(array_stats.ess(by_chain(column, 4))) for column in found.T])
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
    sampler = NUTS(Altered(two_modes), SHORT, monitor)
    sampler.sample(observe(GaussianVector(), 1), 100, seed=0)
    assert max(sampler.diagnostics[0].r_hat) > 1.5
    assert not sampler.diagnostics[0].trustworthy
    assert "do not trust" in monitor.lines[0]


def test_keeps_the_contract() -> None:
    simulator = GaussianVector()
    check_sampler(NUTS(simulator, NUTSOptions(warmup=50, draws=50)), observe(simulator, 2))


# --- seeds, batches, order --------------------------------------------------------------------


def test_draws_depend_on_seed_and_place_alone() -> None:
    simulator = GaussianField(GaussianFieldOptions(size=4))
    observation = observe(simulator, 2)
    sampler = NUTS(simulator, NUTSOptions(warmup=50, draws=50))
    both = sampler.sample(observation, 40, seed=1)
    alone = sampler.sample({"data": observation["data"][:1]}, 40, seed=1)
    other = sampler.sample({"data": observation["data"][:1]}, 40, seed=2)
    for name in both:
        assert torch.equal(both[name][:, :1], alone[name])
        assert not torch.equal(other[name], alone[name])


def test_global_state_is_left_alone() -> None:
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    threads = torch.get_num_threads()
    NUTS(GaussianVector(), SHORT).sample(observe(GaussianVector(), 1), 10, seed=0)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    assert torch.get_num_threads() == threads


def test_draws_are_chain_major() -> None:
    """Chains confined to their own octant of white coordinates come back as blocks."""
    wall = Altered(
        lambda z, v: v * 0 + 200 * torch.log((z**2).prod(-1).clamp_min(1e-300)) - 50 * (z**2).sum(-1)
    )
    z = NUTS(wall, SHORT).sample(observe(wall, 1), 42, seed=4)["theta"][:, 0]
    white = wall.prior.to_white(z)
    assert chain_sizes(42, 4) == (11, 10, 11, 10)
    blocks = white.sign().split(chain_sizes(42, 4))
    assert all((block == block[0]).all() for block in blocks)
    assert len({tuple(block[0].tolist()) for block in blocks}) > 1


@pytest.mark.parametrize("n", [1, 3, 400, 402])
def test_any_number_of_draws(n: int) -> None:
    draws = NUTS(GaussianVector(), SHORT).sample(observe(GaussianVector(), 1), n, seed=0)["theta"]
    assert draws.shape == (n, 1, 2)
    assert draws.dtype == torch.float32


def test_more_draws_than_asked_for_lengthen_the_chains() -> None:
    sampler = NUTS(GaussianVector(), SHORT)
    sampler.sample(observe(GaussianVector(), 1), 1000, seed=0)
    assert sampler.diagnostics[0].draws == 1000


def test_halves_of_the_draws_come_from_different_chains() -> None:
    """The second half of 100 draws of four chains is that of the last two chains alone."""
    sampler = NUTS(GaussianVector(), SHORT)
    observation = observe(GaussianVector(), 1)
    whole = sampler.sample(observation, 400, seed=0)["theta"]
    few = sampler.sample(observation, 100, seed=0)["theta"]
    assert all((draw == whole[:200]).all((-2, -1)).any() for draw in few[:50])
    assert all((draw == whole[200:]).all((-2, -1)).any() for draw in few[50:])


def test_diagnostics_count_what_was_done() -> None:
    calls = 0

    def counted(z: Tensor, value: Tensor) -> Tensor:
        nonlocal calls
        calls += value.numel()
        return value

    sampler = NUTS(Altered(counted), SHORT)
    sampler.sample(observe(GaussianVector(), 1), 10, seed=0)
    found = sampler.diagnostics[0]
    assert found.gradients == calls
    assert found.gradients > 4 * 200
    assert found.draws == 4 * 100
    assert found.seconds > 0
    # 1 for a normal posterior whose energy is drawn anew by the momenta alone.
    assert found.e_bfmi is not None
    assert 0.5 < found.e_bfmi < 2


def test_progress_counts_every_transition() -> None:
    monitor = Recorder()
    NUTS(GaussianVector(), SHORT, monitor).sample(observe(GaussianVector(), 2), 10, seed=0)
    assert monitor.total == monitor.done == 2 * 4 * 200


# --- refusals ---------------------------------------------------------------------------------


class NoDensity(Simulator):
    prior = Prior({"a": Normal(0, 1)})
    outputs = (Vector("x", ("x",)),)
    observed = ("x",)

    def simulate(self, parameters: Values, *, seeds: np.ndarray) -> dict[str, Tensor]:
        return {"x": parameters["theta"]}


def test_a_simulator_without_log_density_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="NoDensity has no differentiable log density") as caught:
        NUTS(NoDensity())
    assert "log_density" in caught.value.fix
    assert "npe" in caught.value.fix


def test_an_odd_number_of_chains_is_refused() -> None:
    """Its halves would share a chain."""
    with pytest.raises(ValidationError, match="multiple of 2"):
        NUTSOptions(chains=3)


def test_missing_nutpie_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nutpie", None)
    with pytest.raises(PluginError, match="nutpie") as caught:
        NUTS(GaussianVector())
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
        NUTS(Altered(change), SHORT).sample(observe(GaussianVector(), 1), 10, seed=0)
    assert threading.active_count() == threads


def test_a_density_that_is_nowhere_finite_is_reported() -> None:
    sampler = NUTS(Altered(lambda z, value: value * torch.nan), SHORT)
    with pytest.raises(SimulationError, match="not finite at any of 100 draws"):
        sampler.sample(observe(GaussianVector(), 1), 10, seed=0)


def test_starts_avoid_where_the_density_is_not_finite() -> None:
    """Nine of ten starts fail; what is not finite is never visited and counts as a divergence."""
    sampler = NUTS(Altered(lambda z, value: torch.where(z[..., 0] > -1.28, torch.nan, value)), SHORT)
    draws = sampler.sample(observe(GaussianVector(), 1), 400, seed=0)["theta"]
    assert GaussianVector.prior.to_white(draws)[..., 0].max() <= -1.27
    assert sampler.diagnostics[0].divergences > 0


def test_an_interruption_ends_the_chains() -> None:
    class Impatient(QuietMonitor):
        def progress(
            self, title: str, total: int, start: int = 0
        ) -> AbstractContextManager[Callable[[int], None]]:
            def interrupt(done: int) -> None:
                raise KeyboardInterrupt

            return nullcontext(interrupt)

    sampler = NUTS(GaussianVector(), NUTSOptions(draws=100_000), Impatient())
    with pytest.raises(KeyboardInterrupt):
        sampler.sample(observe(GaussianVector(), 1), 10, seed=0)
    assert torch.isfinite(
        NUTS(GaussianVector(), SHORT).sample(observe(GaussianVector(), 1), 10, seed=0)["theta"]
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
        NUTS(GaussianVector(), SHORT).sample(observation, 10, seed=0)
