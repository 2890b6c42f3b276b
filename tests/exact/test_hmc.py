"""HMC against exact posteriors and known moments, its motion, seeds, threads, progress and refusals."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from arviz_stats.base import array_stats
from numpy.typing import NDArray
from pydantic import ValidationError
from recorder import Recorder
from torch import Tensor

from sbikit import (
    LogDensity,
    Normal,
    ObservationError,
    Prior,
    SimulationError,
    Simulator,
    UnsupportedError,
    Values,
    Vector,
)
from sbikit.simulations.stream import Simulations
from sbikit.testing import GaussianField, GaussianFieldOptions, GaussianVector, QuietMonitor
from sbikit_exact.chains import chain_sizes
from sbikit_exact.hmc import Ensemble, Settings
from sbikit_exact.hmc_sampler import HMC, HMCOptions

SHORT = HMCOptions(warmup=50, draws=50, max_draws=50)
CPU = torch.device("cpu")
Change = Callable[[Tensor, Tensor], Tensor]


def observe(simulator: Simulator, count: int) -> dict[str, Tensor]:
    draws = Simulations(simulator, seed=3).held_out(0, count)
    return {name: draws[name] for name in simulator.observed}


def densities(simulator: Simulator, observation: Values) -> Callable[[list[int]], LogDensity]:
    """The density of some of the observations."""
    return lambda rows: simulator.log_density(  # type: ignore[attr-defined]
        {name: value[rows] for name, value in observation.items()}
    )


def numbers(*x: float) -> dict[str, Tensor]:
    """Observations of a `Target`."""
    return {"x": torch.tensor(x)[:, None]}


class Target(Simulator):
    """Samples log_prob(z, x) for x (B,); the latents are the coordinates themselves."""

    outputs = (Vector("x", ("x",)),)
    observed = ("x",)

    def __init__(self, log_prob: Change, size: int = 2) -> None:
        self.prior = Prior({f"z{i}": Normal(0, 1) for i in range(size)})
        self.log_prob, self.size = log_prob, size

    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        return {"x": parameters["theta"][:, :1]}

    def log_density(self, observation: Values) -> LogDensity:
        x = observation["x"][:, 0].double()
        return LogDensity(self.size, lambda z: self.log_prob(z, x), lambda z: {"theta": z}, self.size)


def standard(z: Tensor) -> Tensor:
    return -0.5 * z.square().sum(-1)


def normal(z: Tensor, x: Tensor) -> Tensor:
    return standard(z - x[:, None])


def two_modes(z: Tensor, x: Tensor) -> Tensor:
    """Modes at -x and x of width 1/2; no chain can cross where x is 3 or more."""
    return torch.logaddexp(4 * standard(z - x[:, None]), 4 * standard(z + x[:, None]))


class Calling(QuietMonitor):
    """Calls a function at every step of progress."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        super().__init__()
        self.advance = advance

    def progress(
        self, title: str, total: int, start: int = 0
    ) -> AbstractContextManager[Callable[[int], None]]:
        return nullcontext(self.advance)


# --- exact posteriors -------------------------------------------------------------------------


def check_mean(x: Tensor, expected: float) -> None:
    """The mean of chain-major draws (n,) of four chains, to 4 standard errors; no more ESS than draws."""
    ess = min(float(array_stats.ess(x.reshape(4, -1).double().numpy(), method="mean")), len(x))
    assert abs(float(x.mean()) - expected) < 4 * float(x.std()) / math.sqrt(ess)


def check_moments(draws: Tensor, mean: Tensor, sd: Tensor) -> None:
    """Means and variances of draws (n, D)."""
    for x in ((draws - mean) / sd).T:
        check_mean(x, 0.0)
        check_mean(x.square(), 1.0)


def test_vector_posteriors_are_exact() -> None:
    simulator = GaussianVector()
    observation = observe(simulator, 5)
    sampler = HMC(simulator)
    draws = sampler.sample(observation, 1600, seed=5)["theta"]
    exact = simulator.exact_sampler()
    sd = exact.covariance.diagonal().sqrt()
    assert len(sampler.diagnostics) == 5
    for b, found in enumerate(sampler.diagnostics):
        assert found.trustworthy
        assert found.divergences == 0
        mean = exact.mean(observation)[b]
        check_moments(draws[:, b], mean, sd)
        check_mean(((draws[:, b] - mean) / sd).prod(-1), float(exact.covariance[0, 1] / sd.prod()))


def test_field_posteriors_are_exact() -> None:
    simulator = GaussianField(GaussianFieldOptions(size=8))
    observation = observe(simulator, 2)
    sampler = HMC(simulator, HMCOptions(warmup=150, draws=400))
    draws = sampler.sample(observation, 1600, seed=6)
    assert all(found.trustworthy for found in sampler.diagnostics)
    exact = simulator.exact_sampler().sample(observation, 20_000, seed=7)
    for name in ("theta", "field"):
        for b in range(2):
            found, expected = draws[name][:, b].flatten(1), exact[name][:, b].flatten(1)
            sd = expected.std(0)
            ess = torch.tensor([float(array_stats.ess(c.reshape(4, -1).numpy())) for c in found.double().T])
            error = (1 / ess + 1 / 20_000).sqrt()
            score = (found.mean(0) - expected.mean(0)) / sd / error
            # Of up to 64 scores none should pass 4.5, and their mean square should be near 1.
            assert score.abs().max() < 4.5
            assert score.square().mean() < 1 + 4.5 * math.sqrt(2 / len(ess)) + 0.1
            assert ((found.std(0) / sd - 1) * (2 * ess.clamp_max(1600)).sqrt()).abs().max() < 4.5


def test_log_gamma_and_banana_have_their_moments() -> None:
    """z0 = log of a Gamma(x) variable; z1 ~ N(0, 1); z2 given z1 ~ N((z1^2 - 1) / 4, 1/2)."""

    def log_prob(z: Tensor, x: Tensor) -> Tensor:
        gamma = x * z[..., 0] - z[..., 0].exp()
        bend = z[..., 2] - 0.25 * (z[..., 1] ** 2 - 1)
        return gamma - 0.5 * z[..., 1] ** 2 - bend**2

    shapes = torch.tensor([3.0, 9.0], dtype=torch.float64)
    sampler = HMC(Target(log_prob, 3), HMCOptions(draws=800))
    draws = sampler.sample(numbers(3.0, 9.0), 3200, seed=1)["theta"]
    for b, found in enumerate(sampler.diagnostics):
        assert found.trustworthy
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
    chains = Ensemble(density_of, Settings(4, 100, 2.0, 0.8), [1, 2], 7, CPU)
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

    sampler = HMC(Steered(normal), HMCOptions(draws=1500, max_draws=1500))
    draws = sampler.sample(numbers(0.7, -2.0), 6000, seed=3)["theta"]
    for b, x in enumerate((0.7, -2.0)):
        check_moments(draws[:, b], torch.full((2,), x), torch.ones(2))
    # The alarm rings: following what is spoiled takes more steps.
    exact = HMC(Target(normal), HMCOptions(draws=1500, max_draws=1500))
    exact.sample(numbers(0.7, -2.0), 6000, seed=3)
    more = sampler.diagnostics[0].gradients / exact.diagnostics[0].gradients
    assert more > 1.3 if spoiled else more == pytest.approx(1.0, rel=0.02)


# --- the motion -------------------------------------------------------------------------------


def ensemble(simulator: Simulator, observations: int, warmup: int = 60) -> Ensemble:
    density_of = densities(simulator, observe(simulator, observations))
    chains = Ensemble(density_of, Settings(4, warmup, 2.0, 0.8), list(range(observations)), 7, CPU)
    chains.warm_up(lambda done: None)
    return chains


def moving(chains: Ensemble, size: int) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(0)
    z, momenta = torch.randn(2, 4, chains.count, size, generator=source, dtype=torch.float64)
    return z, momenta


def test_the_motion_is_reversible() -> None:
    """Forward, momenta turned round, and back: at the start again, whatever the number of steps."""
    chains = ensemble(GaussianField(GaussianFieldOptions(size=8)), 3)
    z, momenta = moving(chains, 66)
    step, steps = torch.tensor([0.3, 0.1, 0.2], dtype=torch.float64), torch.tensor([5, 40, 17])
    there, turned = chains.follow(z, momenta, step, steps)
    assert ((there - z).flatten(2).norm(dim=-1) > 0.5).all()
    back, final = chains.follow(there, -turned, step, steps)
    torch.testing.assert_close(back, z, rtol=0.0, atol=1e-9)
    torch.testing.assert_close(final, -momenta, rtol=0.0, atol=1e-9)


def test_the_energy_error_is_of_second_order() -> None:
    """Half the step, a quarter of the error: acceptance tends to 1."""
    simulator = GaussianField(GaussianFieldOptions(size=8))
    chains = ensemble(simulator, 2)
    density = densities(simulator, observe(simulator, 2))([0, 1])
    z, momenta = moving(chains, 66)

    def energy(z: Tensor, momenta: Tensor) -> Tensor:
        return 0.5 * momenta.square().sum(-1) - density.log_prob(z)

    def error(steps: int) -> float:
        step = torch.full((2,), 2.0 / steps, dtype=torch.float64)
        there, turned = chains.follow(z, momenta, step, torch.tensor([steps, steps]))
        return float((energy(there, turned) - energy(z, momenta)).square().mean().sqrt())

    coarse, fine, finest = error(40), error(80), error(160)
    assert coarse / fine == pytest.approx(4.0, rel=0.1)
    assert fine / finest == pytest.approx(4.0, rel=0.05)
    assert math.exp(-error(1280)) > 0.999


def test_what_is_normal_is_followed_exactly() -> None:
    """The motion of N(0, 1) is a rotation, at any step size."""
    chains = Ensemble(densities(Target(normal), numbers(0.0)), Settings(4, 50, 2.0, 0.8), [0], 7, CPU)
    z, momenta = moving(chains, 2)
    step, steps = torch.tensor([1.3], dtype=torch.float64), torch.tensor([3])
    there, turned = chains.follow(z, momenta, step, steps)
    c, s = math.cos(3.9), math.sin(3.9)
    torch.testing.assert_close(there, c * z + s * momenta)
    torch.testing.assert_close(turned, c * momenta - s * z)


def test_every_observation_takes_its_own_number_of_steps() -> None:
    """Those that have arrived stay where they are."""
    chains = ensemble(GaussianVector(), 2)
    z, momenta = moving(chains, 2)
    step = torch.tensor([0.1, 0.2], dtype=torch.float64)
    both = chains.follow(z, momenta, step, torch.tensor([3, 9]))
    first = chains.follow(z, momenta, step, torch.tensor([3, 3]))
    second = chains.follow(z, momenta, step, torch.tensor([9, 9]))
    for part, one, other in zip(both, first, second, strict=True):
        torch.testing.assert_close(part[:, 0], one[:, 0], rtol=1e-14, atol=0.0)
        torch.testing.assert_close(part[:, 1], other[:, 1], rtol=1e-14, atol=0.0)


# --- seeds, batches, order --------------------------------------------------------------------


def test_draws_depend_on_seed_and_place_alone() -> None:
    """Not even on a neighbour in the same batch that is narrow and has a hard time to start."""

    def log_prob(z: Tensor, x: Tensor) -> Tensor:
        value = standard((z + 3 * x[:, None]) * (1 + 5 * x[:, None]))
        return torch.where((z[..., 0] > -1.5) & (x > 0.5), torch.nan, value)

    sampler = HMC(Target(log_prob), SHORT)
    calm = sampler.sample(numbers(0.0, 0.0, 0.0), 40, seed=1)["theta"]
    gradients = sampler.diagnostics[0].gradients
    beside = sampler.sample(numbers(0.0, 1.0, 0.2), 40, seed=1)["theta"]
    assert sampler.diagnostics[0].gradients == gradients
    torch.testing.assert_close(beside[:, 0], calm[:, 0], rtol=0.0, atol=1e-6)
    assert not torch.equal(beside[:, 1], calm[:, 1])
    again = sampler.sample(numbers(0.0, 1.0, 0.2), 40, seed=1)["theta"]
    assert torch.equal(again, beside)
    other = sampler.sample(numbers(0.0, 1.0, 0.2), 40, seed=2)["theta"]
    assert (other != beside).any((0, 2)).all()


def test_observations_may_come_in_any_order() -> None:
    """Their random numbers are others, their posteriors are not."""
    simulator = GaussianVector()
    observation = observe(simulator, 4)
    order = [2, 0, 3, 1]
    sampler = HMC(simulator, HMCOptions(warmup=100, draws=400, max_draws=400))
    straight = sampler.sample(observation, 1600, seed=1)["theta"]
    ess = torch.tensor([found.ess_bulk for found in sampler.diagnostics])[order].clamp_max(1600)
    mixed = sampler.sample({"x": observation["x"][order]}, 1600, seed=1)["theta"]
    assert not torch.equal(mixed, straight[:, order])
    error = straight.std(0)[order] * (2 / ess.clamp_max(400)).sqrt()
    assert ((mixed.mean(0) - straight.mean(0)[order]).abs() < 4 * error).all()
    assert (straight.mean(0) - straight.mean(0)[order]).abs().max() > 4 * error.max()


def test_draws_are_chain_major_and_halves_share_no_chain() -> None:
    """Chains confined to their own quadrant come back as blocks."""

    def quadrants(z: Tensor, x: Tensor) -> Tensor:
        return 10 * standard(z) + 20 * torch.log(z.square().prod(-1).clamp_min(1e-300))

    draws = HMC(Target(quadrants), SHORT).sample(numbers(0.0), 42, seed=4)["theta"][:, 0]
    blocks = draws.sign().split(chain_sizes(42, 4))
    assert all((block == block[0]).all() for block in blocks)
    assert len({tuple(block[0].tolist()) for block in blocks}) > 1


@pytest.mark.parametrize("n", [1, 3, 200, 202])
def test_any_number_of_draws(n: int) -> None:
    draws = HMC(GaussianVector(), SHORT).sample(observe(GaussianVector(), 2), n, seed=0)["theta"]
    assert draws.shape == (n, 2, 2)
    assert draws.dtype == torch.float32


def test_no_observations_give_no_draws() -> None:
    sampler = HMC(GaussianVector(), SHORT)
    assert sampler.sample({"x": torch.empty(0, 3)}, 5, seed=0)["theta"].shape == (5, 0, 2)
    assert sampler.diagnostics == []


def test_more_draws_than_asked_for_lengthen_the_chains() -> None:
    sampler = HMC(GaussianVector(), SHORT)
    draws = sampler.sample(observe(GaussianVector(), 1), 1000, seed=0)["theta"]
    assert sampler.diagnostics[0].draws == 1000
    assert len(draws.unique(dim=0)) > 500


# --- going on ---------------------------------------------------------------------------------


def test_only_what_cannot_be_trusted_goes_on() -> None:
    """Two far modes beside a normal: one stops, the other ends without trust at the limit."""
    monitor = Recorder()
    sampler = HMC(Target(two_modes), HMCOptions(warmup=60, draws=401, max_draws=1000), monitor)
    draws = sampler.sample(numbers(0.0, 3.0, 0.0), 1605, seed=0)["theta"]
    assert [found.trustworthy for found in sampler.diagnostics] == [True, False, True]
    # 1605 draws need 402 of a chain.
    draws_made = [found.draws for found in sampler.diagnostics]
    assert draws_made[1] == 4 * 1000 > max(draws_made[0], draws_made[2])
    assert 4 * 402 in draws_made
    assert max(sampler.diagnostics[1].r_hat) > 1.5
    assert len(monitor.lines) == 1
    assert "do not trust the chains of 1 of 3 observations" in monitor.lines[0]
    assert "R-hat up to" in monitor.lines[0]
    assert "max_draws" in monitor.lines[0]
    assert monitor.done == monitor.total
    # No draw twice, but where a transition was turned down.
    assert len(draws[:, 1].unique(dim=0)) > 1200


def test_slow_chains_go_on_until_they_are_trusted() -> None:
    """The draws that are returned come from the whole of a run that went on."""

    sampler = HMC(Target(normal), HMCOptions(draws=50, max_draws=3200, path=0.6))
    draws = sampler.sample(numbers(0.0), 200, seed=0)["theta"][:, 0]
    (found,) = sampler.diagnostics
    assert found.trustworthy
    assert found.draws > 4 * 200
    # Neighbours among the 200 are 16 or more transitions apart.
    chains = draws.reshape(4, 50, 2)
    correlation = (chains[:, 1:] * chains[:, :-1]).mean() / chains.square().mean()
    assert abs(correlation) < 4 / math.sqrt(400)
    assert (draws.std(0) - 1).abs().max() < 4 / math.sqrt(2 * 200)


def test_many_complaints_are_one_line() -> None:
    monitor = Recorder()
    sampler = HMC(Target(two_modes), SHORT, monitor)
    sampler.sample(numbers(*[6.0] * 9), 10, seed=0)
    assert len(monitor.lines) == 1
    assert "9 of 9" in monitor.lines[0]


def test_trusted_chains_need_no_words() -> None:
    monitor = Recorder()
    HMC(GaussianVector(), HMCOptions(), monitor).sample(observe(GaussianVector(), 2), 10, seed=0)
    assert monitor.lines == []


# --- diagnostics and progress -----------------------------------------------------------------


def test_diagnostics_count_what_was_done() -> None:
    calls = 0

    def counted(z: Tensor, x: Tensor) -> Tensor:
        nonlocal calls
        calls += z.requires_grad * z[..., 0].numel()
        return normal(z, x)

    sampler = HMC(Target(counted), HMCOptions(warmup=100, draws=200, max_draws=200))
    sampler.sample(numbers(0.5), 10, seed=0)
    (found,) = sampler.diagnostics
    assert found.gradients == calls > 4 * 300
    assert found.draws == 4 * 200
    assert 0 < found.seconds < 60
    # 1 for a normal posterior whose energy is drawn anew by the momenta alone.
    assert found.e_bfmi is not None
    assert 0.5 < found.e_bfmi < 2


def test_progress_counts_every_transition() -> None:
    monitor = Recorder()
    HMC(GaussianVector(), replace_chains(SHORT, 32), monitor).sample(observe(GaussianVector(), 5), 10, seed=0)
    assert monitor.total == monitor.done == 5 * 32 * 100


def replace_chains(options: HMCOptions, chains: int) -> HMCOptions:
    """With 32 chains, no more than two observations make a batch."""
    return options.model_copy(update={"chains": chains})


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
    sampler = HMC(GaussianVector(), batches())
    observation = observe(GaussianVector(), 7)
    both = sampler.sample(observation, 64, seed=1)["theta"]
    found = [replace(one, seconds=0.0) for one in sampler.diagnostics]
    torch.set_num_threads(1)
    assert torch.equal(sampler.sample(observation, 64, seed=1)["theta"], both)
    assert [replace(one, seconds=0.0) for one in sampler.diagnostics] == found


def test_batches_run_at_once(two_threads: None) -> None:
    """Each waits for the other."""
    meeting, met = threading.Barrier(2, timeout=30), threading.local()

    def log_prob(z: Tensor, x: Tensor) -> Tensor:
        if z.requires_grad and not hasattr(met, "done"):
            met.done = meeting.wait()
        return normal(z, x)

    HMC(Target(log_prob), batches()).sample(numbers(0, 1, 2, 3), 10, seed=0)
    assert not meeting.broken


def test_the_monitor_hears_one_thread_at_a_time(two_threads: None) -> None:
    meeting, together = threading.Barrier(2), []

    def advance(done: int) -> None:
        try:
            meeting.wait(timeout=0.2)
            together.append(done)
        except threading.BrokenBarrierError:
            pass

    HMC(Target(normal), batches(), Calling(advance)).sample(numbers(0, 1, 2, 3), 10, seed=0)
    assert meeting.broken
    assert not together


def test_global_state_is_left_alone(two_threads: None) -> None:
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    running = threading.active_count()
    HMC(GaussianVector(), batches()).sample(observe(GaussianVector(), 4), 10, seed=0)
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

    sampler, running = HMC(Target(log_prob), batches(draws=1_000_000, max_draws=1_000_000)), time.monotonic()
    with pytest.raises(SimulationError, match=message) as caught:
        sampler.sample(numbers(0, 0, 0, 9, 0, 0), 10, seed=0)
    assert (caught.value is error) == isinstance(error, SimulationError)
    assert time.monotonic() - running < 20
    assert sampler.diagnostics == []
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("stop", [KeyboardInterrupt, InterruptedError])
def test_an_interruption_ends_all_batches(two_threads: None, stop: type[BaseException]) -> None:
    told = 0

    def advance(done: int) -> None:
        nonlocal told
        told += 1
        if told == 20:
            raise stop

    sampler = HMC(GaussianVector(), batches(draws=1_000_000, max_draws=1_000_000), Calling(advance))
    with pytest.raises((KeyboardInterrupt, SimulationError)):
        sampler.sample(observe(GaussianVector(), 8), 10, seed=0)
    assert told < 100


# --- where there is no density ----------------------------------------------------------------


def test_starts_avoid_where_the_density_is_not_finite() -> None:
    """Nine of ten starts fail; what is not finite is never visited and counts as a divergence."""

    def log_prob(z: Tensor, x: Tensor) -> Tensor:
        return torch.where(z[..., 0] > -1.28, torch.nan, standard(z + 2))

    sampler = HMC(Target(log_prob), SHORT)
    draws = sampler.sample(numbers(0.0), 200, seed=0)["theta"]
    assert draws[..., 0].max() <= -1.28
    assert sampler.diagnostics[0].divergences > 0


@pytest.mark.parametrize("nothing", [torch.nan, -torch.inf, torch.inf])
def test_a_density_that_is_nowhere_finite_is_reported(nothing: float) -> None:
    sampler = HMC(Target(lambda z, x: standard(z) * 0 + nothing), SHORT)
    with pytest.raises(SimulationError, match="not finite at any of 100 starts"):
        sampler.sample(numbers(0.0), 10, seed=0)


def test_a_gradient_that_is_nowhere_finite_is_reported() -> None:
    sampler = HMC(Target(lambda z, x: (z * 0).sum(-1).sqrt()), SHORT)
    with pytest.raises(SimulationError, match="not finite at any of 100 starts"):
        sampler.sample(numbers(0.0), 10, seed=0)


def test_what_is_not_finite_spoils_no_neighbour() -> None:
    def log_prob(z: Tensor, x: Tensor) -> Tensor:
        return torch.where((z[..., 0] > 1.0) & (x > 0), torch.nan, standard(z))

    sampler = HMC(Target(log_prob), SHORT)
    clean = sampler.sample(numbers(0.0, 0.0, 0.0, 0.0), 40, seed=0)["theta"]
    beside = sampler.sample(numbers(0.0, 1.0, 0.0, 0.0), 40, seed=0)["theta"]
    torch.testing.assert_close(beside[:, 0], clean[:, 0], rtol=0.0, atol=1e-6)
    assert sampler.diagnostics[0].divergences == 0
    assert sampler.diagnostics[1].divergences > 0
    assert not sampler.diagnostics[1].trustworthy


# --- refusals ---------------------------------------------------------------------------------


class NoDensity(Simulator):
    prior = Prior({"a": Normal(0, 1)})
    outputs = (Vector("x", ("x",)),)
    observed = ("x",)

    def simulate(self, parameters: Values, *, seeds: np.ndarray) -> dict[str, Tensor]:
        return {"x": parameters["theta"]}


def test_a_simulator_without_log_density_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="NoDensity has no differentiable log density") as caught:
        HMC(NoDensity())
    assert caught.value.where == "sampler 'hmc'"
    assert "log_density" in caught.value.fix


def test_a_density_that_cannot_be_made_is_reported() -> None:
    class Broken(GaussianVector):
        def log_density(self, observation: Values) -> LogDensity:
            raise ZeroDivisionError("no noise")

    with pytest.raises(SimulationError, match="ZeroDivisionError: no noise"):
        HMC(Broken(), SHORT).sample(observe(GaussianVector(), 1), 10, seed=0)


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
        HMC(GaussianVector(), SHORT).sample(observation, 10, seed=0)
