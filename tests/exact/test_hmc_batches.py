"""HMC: draws depend on observation and seed alone, in any batch and on any number of threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from exact_helpers import (
    Calling,
    Target,
    drawn,
    hmc,
    normal,
    numbers,
    observe,
    readings,
    standard,
)
from torch import Tensor

from sbikit import Sampler, SimulationError, Values, draw_seeds
from sbikit.testing import GaussianField, GaussianFieldOptions, GaussianVector, check_sampler
from sbikit_exact.chains import chain_sizes
from sbikit_exact.hmc import HMCOptions
from sbikit_lognormal.options import LogNormalOptions
from sbikit_lognormal.simulator import LogNormal

SHORT = HMCOptions(warmup=50, draws=50, max_draws=50)


# --- seeds, batches, order --------------------------------------------------------------------


def test_no_draw_depends_on_the_neighbours() -> None:
    """Not even on one in the same batch that is narrow and has a hard time to start."""

    def log_prob(z: Tensor, x: Tensor) -> Tensor:
        value = standard((z + 3 * x[:, None]) * (1 + 5 * x[:, None]))
        return torch.where((z[..., 0] > -1.5) & (x > 0.5), torch.nan, value)

    sampler = hmc(Target(log_prob), SHORT)
    calm = drawn(sampler, numbers(0.0, 0.0, 0.0), 40, seed=1)
    beside = drawn(sampler, numbers(0.0, 1.0, 0.2), 40, seed=1)
    assert beside.trust[0].value("gradients") == calm.trust[0].value("gradients")
    torch.testing.assert_close(beside.values["theta"][:, 0], calm.values["theta"][:, 0], rtol=0.0, atol=1e-6)
    assert not torch.equal(beside.values["theta"][:, 1], calm.values["theta"][:, 1])
    again = drawn(sampler, numbers(0.0, 1.0, 0.2), 40, seed=1)
    assert torch.equal(again.values["theta"], beside.values["theta"])
    other = drawn(sampler, numbers(0.0, 1.0, 0.2), 40, seed=2)
    assert (other.values["theta"] != beside.values["theta"]).any((0, 2)).all()


def test_two_chains_keep_the_contract() -> None:
    """A row in the middle, another chunk, another order, one thread and two."""
    for simulator in (GaussianVector(), GaussianField(GaussianFieldOptions(size=4))):
        check_sampler(hmc(simulator, SHORT.model_copy(update={"chains": 2})), observe(simulator, 3))


@pytest.mark.parametrize("chains", [2, 4])
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="fast gradient"),
        pytest.param({"sources": {"bins": 2}}, id="autograd", marks=pytest.mark.slow),
    ],
)
def test_maps_of_a_row_in_the_middle_are_those_of_the_row_alone(options: dict[str, Any], chains: int) -> None:
    """Also where chains follow a gradient in float32, which is as it comes."""
    simulator = LogNormal(LogNormalOptions.model_validate({"size": 8, **options}))
    sampler = hmc(simulator, SHORT.model_copy(update={"chains": chains}))
    observation, seeds = observe(simulator, 3), draw_seeds(1, "test", 0, 3)
    whole = sampler.sample(observation, 8, seeds=seeds)
    for rows in ([1], [2, 1]):
        some = sampler.sample(
            {name: value[rows] for name, value in observation.items()}, 8, seeds=seeds[rows]
        )
        for name, value in some.values.items():
            expected = whole.values[name][:, rows]
            assert float((value - expected).abs().max()) < 1e-3 * float(expected.std(0).mean())


MIXING = 0.25 * torch.randn(16, 16, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def rough(z: Tensor, x: Tensor) -> Tensor:
    """A normal law with waves on it, over which chains travel without a memory of where they came from."""
    return standard(z) + torch.cos(4.0 * z @ MIXING + x[:, None]).sum(-1)


def farthest(sampler: Sampler, observation: Values) -> float:
    """Between draws for one of three observations in batches of several sizes, in standard deviations."""
    seeds = draw_seeds(1, "test", 0, 3)
    whole = sampler.sample(observation, 40, seeds=seeds).values["theta"]
    apart = []
    for rows in ([1], [2, 0]):
        some = sampler.sample({"x": observation["x"][rows]}, 40, seeds=seeds[rows]).values["theta"]
        apart.append((some - whole[:, rows]).abs().max())
    return float(max(apart) / whole.std(0).mean())


def test_rounding_that_depends_on_the_batch_does_not_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A product of matrices of six rows is rounded otherwise than one of two."""
    sampler = hmc(Target(rough, 16), SHORT.model_copy(update={"chains": 2}))
    observation = numbers(0.5, 0.7, 1.0)
    assert farthest(sampler, observation) < 1e-3
    # The alarm rings: forces as they come make other chains of the same seeds.
    monkeypatch.setattr("sbikit_exact.hmc.motion.on_grid", lambda force: force)
    assert farthest(sampler, observation) > 0.1


def test_draws_are_chain_major_and_halves_share_no_chain() -> None:
    """Chains confined to their own quadrant come back as blocks."""

    def quadrants(z: Tensor, x: Tensor) -> Tensor:
        return 10 * standard(z) + 20 * torch.log(z.square().prod(-1).clamp_min(1e-300))

    draws = drawn(hmc(Target(quadrants), SHORT), numbers(0.0), 42, seed=4).values["theta"][:, 0]
    blocks = draws.sign().split(chain_sizes(42, 4))
    assert all((block == block[0]).all() for block in blocks)
    assert len({tuple(block[0].tolist()) for block in blocks}) > 1


@pytest.mark.parametrize("n", [1, 3, 200, 202])
def test_any_number_of_draws(n: int) -> None:
    draws = drawn(hmc(GaussianVector(), SHORT), observe(GaussianVector(), 2), n, seed=0).values["theta"]
    assert draws.shape == (n, 2, 2)
    assert draws.dtype == torch.float32


def test_no_observations_give_no_draws() -> None:
    sampler = hmc(GaussianVector(), SHORT)
    assert drawn(sampler, {"x": torch.empty(0, 3)}, 5, seed=0).values["theta"].shape == (5, 0, 2)


def test_more_draws_than_asked_for_lengthen_the_chains() -> None:
    sampler = hmc(GaussianVector(), SHORT)
    found = drawn(sampler, observe(GaussianVector(), 1), 1000, seed=0)
    assert found.trust[0].value("transitions") == 1000
    assert len(found.values["theta"].unique(dim=0)) > 500


# --- threads ----------------------------------------------------------------------------------


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def batches(**options: int) -> HMCOptions:
    return HMCOptions(chains=32, warmup=50, **{"draws": 50, "max_draws": 50, **options})


def test_draws_are_the_same_on_any_number_of_threads(two_threads: None) -> None:
    sampler = hmc(GaussianVector(), batches())
    observation = observe(GaussianVector(), 7)
    both = drawn(sampler, observation, 64, seed=1)
    torch.set_num_threads(1)
    alone = drawn(sampler, observation, 64, seed=1)
    assert torch.equal(alone.values["theta"], both.values["theta"])
    assert list(map(readings, alone.trust)) == list(map(readings, both.trust))


def test_batches_run_at_once(two_threads: None) -> None:
    """Each waits for the other."""
    meeting, met = threading.Barrier(2, timeout=30), threading.local()

    def log_prob(z: Tensor, x: Tensor) -> Tensor:
        if z.requires_grad and not hasattr(met, "done"):
            met.done = meeting.wait()
        return normal(z, x)

    drawn(hmc(Target(log_prob), batches()), numbers(0, 1, 2, 3), 10, seed=0)
    assert not meeting.broken


def test_the_monitor_hears_one_thread_at_a_time(two_threads: None) -> None:
    meeting, together = threading.Barrier(2), []

    def advance(done: int) -> None:
        try:
            meeting.wait(timeout=0.2)
            together.append(done)
        except threading.BrokenBarrierError:
            pass

    drawn(hmc(Target(normal), batches(), Calling(advance)), numbers(0, 1, 2, 3), 10, seed=0)
    assert meeting.broken
    assert not together


def test_global_state_is_left_alone(two_threads: None) -> None:
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    running = threading.active_count()
    drawn(hmc(GaussianVector(), batches()), observe(GaussianVector(), 4), 10, seed=0)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    assert torch.get_num_threads() == 2
    assert threading.active_count() == running
    later: list[int] = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [2]


class Refusal(SimulationError):
    """A simulator's own."""


@pytest.mark.parametrize(
    ("error", "message"),
    [(ValueError("no such spectrum"), "ValueError: no such spectrum"), (Refusal("not here"), "not here")],
)
def test_an_error_in_one_batch_ends_all(two_threads: None, error: Exception, message: str) -> None:
    """The others would go on for hours."""

    def log_prob(z: Tensor, x: Tensor) -> Tensor:
        if (x == 9).any():
            raise error
        return normal(z, x)

    sampler, running = hmc(Target(log_prob), batches(draws=1_000_000, max_draws=1_000_000)), time.monotonic()
    with pytest.raises(SimulationError, match=message) as caught:
        drawn(sampler, numbers(0, 0, 0, 9, 0, 0), 10, seed=0)
    assert (caught.value is error) == isinstance(error, SimulationError)
    assert time.monotonic() - running < 20
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("stop", [KeyboardInterrupt, InterruptedError])
def test_an_interruption_ends_all_batches(two_threads: None, stop: type[BaseException]) -> None:
    told = 0

    def advance(done: int) -> None:
        nonlocal told
        told += 1
        if told == 20:
            raise stop

    sampler = hmc(GaussianVector(), batches(draws=1_000_000, max_draws=1_000_000), Calling(advance))
    with pytest.raises((KeyboardInterrupt, SimulationError)):
        drawn(sampler, observe(GaussianVector(), 8), 10, seed=0)
    assert told < 100


def test_batches_that_workers_draw_are_those_of_the_whole() -> None:
    """In float32, where rounding depends on the batch: to the bit, and not so in other batches."""
    simulator = LogNormal(LogNormalOptions(size=8))
    sampler, seen = hmc(simulator, batches()), observe(simulator, 4)
    size = sampler.batch_size(seen)
    assert size == 2
    seeds = draw_seeds(0, "test", 0, 4)
    whole = sampler.sample(seen, 20, seeds=seeds).values
    divided = sampler.in_batches(size)
    for first in (0, 2):
        some = {name: value[first : first + 2] for name, value in seen.items()}
        part = divided.sample(some, 20, seeds=seeds[first : first + 2]).values
        for name, value in part.items():
            assert torch.equal(value, whole[name][:, first : first + 2])
    assert sampler.in_batches(3).batch_size(seen) == 3
