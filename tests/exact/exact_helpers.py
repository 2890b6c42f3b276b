"""What tests of the exact samplers share: monitors, posteriors that are known, and ways to draw from them."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from arviz_stats.base import array_stats
from numpy.typing import NDArray
from torch import Tensor

from sbikit import (
    Draws,
    LogDensity,
    Monitor,
    Normal,
    Prior,
    QuietMonitor,
    Sampler,
    Simulations,
    Simulator,
    Trust,
    Values,
    Vector,
    draw_seeds,
)
from sbikit_exact.hmc import HMC, HMCOptions, HMCSampler

Change = Callable[[Tensor, Tensor], Tensor]


class Recorder(QuietMonitor):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.total = self.done = 0
        self.lines: list[str] = []

    def progress(
        self, title: str, total: int, start: int = 0
    ) -> AbstractContextManager[Callable[[int], None]]:
        self.total = total
        return nullcontext(self._advance)

    def _advance(self, done: int) -> None:
        self.done += done

    def say(self, text: str) -> None:
        self.lines.append(text)


class Calling(QuietMonitor):
    """Calls a function at every step of progress."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self.advance = advance

    def progress(
        self, title: str, total: int, start: int = 0
    ) -> AbstractContextManager[Callable[[int], None]]:
        return nullcontext(self.advance)


class Target(Simulator):
    """Samples log_prob(z, x) for x (B,); the latents are the coordinates themselves."""

    outputs = (Vector("x", ("x",)),)
    observed = ("x",)

    def __init__(self, log_prob: Change, size: int = 2) -> None:
        super().__init__()
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


class NoDensity(Simulator):
    prior = Prior({"a": Normal(0, 1)})
    outputs = (Vector("x", ("x",)),)
    observed = ("x",)

    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        return {"x": parameters["theta"]}


def numbers(*x: float) -> dict[str, Tensor]:
    """Observations of a `Target`."""
    return {"x": torch.tensor(x)[:, None]}


def observe(simulator: Simulator, count: int) -> dict[str, Tensor]:
    draws = Simulations(simulator, seed=3).held_out(0, count)
    return {name: draws[name] for name in simulator.observed}


def densities(simulator: Simulator, observation: Values) -> Callable[[list[int]], LogDensity]:
    """The density of some of the observations."""
    return lambda rows: simulator.log_density(  # type: ignore[attr-defined]
        {name: value[rows] for name, value in observation.items()}
    )


def hmc(
    simulator: Simulator, options: HMCOptions | None = None, monitor: Monitor | None = None
) -> HMCSampler:
    return HMC(options).posterior(simulator, monitor=monitor or QuietMonitor())


def drawn(sampler: Sampler, observation: Values, n: int, *, seed: int) -> Draws:
    """Draws with one seed an observation, made of `seed`."""
    count = len(next(iter(observation.values())))
    return sampler.sample(observation, n, seeds=draw_seeds(seed, "test", 0, count))


def readings(trust: Trust, *, without: str = "seconds") -> dict[str, float | None]:
    """Every figure but one."""
    return {one.name: one.value for one in trust.readings if one.name != without}


def by_chain(draws: Tensor, chains: int = 4) -> NDArray[np.float64]:
    """Chain-major draws (n,) of n divisible by chains -> (chains, n / chains)."""
    return draws.double().reshape(chains, -1).numpy()


def check_mean(x: Tensor, expected: float) -> None:
    """The mean of chain-major draws (n,) of four chains, to 4 standard errors; no more ESS than draws."""
    ess = min(float(array_stats.ess(by_chain(x), method="mean")), len(x))
    assert abs(float(x.mean()) - expected) < 4 * float(x.std()) / math.sqrt(ess)


def check_moments(draws: Tensor, mean: Tensor, sd: Tensor) -> None:
    """Means and variances of draws (n, D)."""
    for x in ((draws - mean) / sd).T:
        check_mean(x, 0.0)
        check_mean(x.square(), 1.0)
