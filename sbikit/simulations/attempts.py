"""Attempts at draws: parameters and seeds from (seed, stream, draw, attempt) alone, and what came of them.

Attempt 0 of draw i has the seeds of draw i. Where draws that fail are drawn again, attempts 1, 2, ... have
seeds of their own, and the first that is good is draw i: a draw of the joint law given that the simulator
works, which depends on nothing but (seed, stream, i).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sbikit.problem.errors import SimulationError
from sbikit.problem.seeds import draw_seeds
from sbikit.problem.variables import Values
from sbikit.roles.simulator import Simulator
from sbikit.simulations.tried import Failure, describe_draw, try_batch


@dataclass(frozen=True)
class Attempts:
    """Draws that were tried, n of them.

    Args:
        first: number of the first draw.
        parameters: (n, D), of failed draws, too.
        seeds: (n,) of the simulator.
        outputs: float32, each (n, *shape), zeros in failed rows.
        failures: number of the row -> why it failed.
        seconds: (n,) wall time of each draw; of draws that ran together the mean.
    """

    first: int
    parameters: Values
    seeds: NDArray[np.int64]
    outputs: Values
    failures: Mapping[int, Failure]
    seconds: NDArray[np.float64]

    def __reduce__(self) -> tuple[Callable[..., Attempts], tuple[Any, ...]]:
        """Between processes tensors travel as numpy arrays, which costs a copy and nothing more."""
        values = (getattr(self, part.name) for part in fields(self))
        return _rebuilt, tuple(_as_arrays(value) for value in values)


def _as_arrays(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _as_arrays(one) for name, one in value.items()}
    return value.numpy() if isinstance(value, torch.Tensor) else value


def _rebuilt(first: int, parameters: Any, seeds: Any, outputs: Any, *others: Any) -> Attempts:
    def tensors(arrays: Mapping[str, NDArray[np.float32]]) -> Values:
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    return Attempts(first, tensors(parameters), seeds, tensors(outputs), *others)


@dataclass(frozen=True)
class Wanted:
    """Draws that are to be tried.

    Args:
        seed: seed of the run.
        stream: name of the stream.
        draws: (n,) numbers of the draws.
        attempt: which attempt at each of them.
    """

    seed: int
    stream: str
    draws: NDArray[np.int64]
    attempt: int = 0

    def seeds(self, purpose: str) -> NDArray[np.int64]:
        """(n,) seeds of "parameters" or of the "simulator"."""
        again = f"/attempt {self.attempt}" if self.attempt else ""
        stream = f"{self.stream}{again}/{purpose}"
        first, count = int(self.draws[0]), len(self.draws)
        if np.array_equal(self.draws, np.arange(first, first + count)):
            return draw_seeds(self.seed, stream, first, count)
        return np.concatenate([draw_seeds(self.seed, stream, int(draw), 1) for draw in self.draws])

    def rows(self, chosen: slice | list[int]) -> Wanted:
        """Some of them."""
        return Wanted(self.seed, self.stream, self.draws[chosen], self.attempt)


@dataclass(frozen=True)
class Given:
    """Draws of chosen parameters and seeds, of no stream.

    Args:
        theta: (n, D) float32.
        seeds: (n,) of the simulator.
    """

    theta: NDArray[np.float32]
    seeds: NDArray[np.int64]


def attempt(simulator: Simulator, seed: int, stream: str, first: int, count: int) -> Attempts:
    """Try the draws `first` to `first + count - 1` of a stream once each, in this process.

    Raises:
        SimulationError: something is wrong that another draw would not mend.
    """
    return attempt_wanted(simulator, Wanted(seed, stream, np.arange(first, first + count)))


def attempt_wanted(simulator: Simulator, wanted: Wanted) -> Attempts:
    """The same of any draws and any attempt at them."""
    parameters = simulator.prior.sample(wanted.seeds("parameters"))
    seeds = wanted.seeds("simulator")
    tried = try_batch(simulator, parameters, seeds, wanted.draws)
    return Attempts(int(wanted.draws[0]), parameters, seeds, tried.outputs, tried.failures, tried.seconds)


def attempt_given(simulator: Simulator, given: Given) -> Attempts:
    """The same of chosen parameters and seeds."""
    parameters = {simulator.prior.name: torch.from_numpy(given.theta)}
    tried = try_batch(simulator, parameters, given.seeds, np.arange(len(given.seeds)))
    return Attempts(0, parameters, given.seeds, tried.outputs, tried.failures, tried.seconds)


def failed(simulator: Simulator, wanted: Wanted, failure: Failure, seconds: float) -> Attempts:
    """One attempt that left nothing but the reason: it outlasted its limit, or ended its process."""
    parameters, seeds = simulator.prior.sample(wanted.seeds("parameters")), wanted.seeds("simulator")
    outputs = {v.name: torch.zeros(1, *v.shape) for v in simulator.drawn}
    where = describe_draw(simulator, parameters, seeds, wanted.draws, 0)
    error = SimulationError(failure.error.message, where=where, fix=failure.error.fix)
    found = Failure(failure.kind, failure.words, error)
    return Attempts(int(wanted.draws[0]), parameters, seeds, outputs, {0: found}, np.array([seconds]))


def too_many(failed: int, tried: int, most: float) -> bool:
    """Whether more than a share `most` of all draws fail, by three standard deviations.

    With most = 0 one failure is too many. The first 32 draws count as 32, so that what is no more than chance
    ends nothing.
    """
    expected = most * max(tried, 32)
    return failed > expected + 3.0 * float(np.sqrt(expected * (1.0 - most)))
