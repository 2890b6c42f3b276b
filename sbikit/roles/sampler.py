"""A sampler draws from a posterior, learned or exact; an exact one is a plug-in that needs no training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from sbikit.problem.errors import PluginError
from sbikit.problem.spec import Spec
from sbikit.problem.variables import Values
from sbikit.roles.monitor import Monitor
from sbikit.roles.plugin import OptionsT_co, Plugin
from sbikit.roles.simulator import Simulator
from sbikit.roles.trust import Trust


@dataclass(frozen=True)
class Draws:
    """Draws from the posteriors of B observations, and what the sampler says of them.

    Args:
        values: the latents, each (n, B, *shape), float32 on the CPU.
        trust: one an observation.

    Raises:
        PluginError: there is not one trust an observation.
    """

    values: Values
    trust: tuple[Trust, ...]

    def __post_init__(self) -> None:
        counts = {value.shape[1] for value in self.values.values()}
        if counts and counts != {len(self.trust)}:
            raise PluginError(
                "Draws need one trust an observation.",
                where="Draws",
                expected=f"{sorted(counts)[0]} of them",
                got=str(len(self.trust)),
                fix="report this to the author of the sampler",
            )

    @staticmethod
    def unjudged(values: Values) -> Draws:
        """Draws, each (n, B, *shape), of a sampler that does not judge them."""
        count = next(iter(values.values())).shape[1]
        return Draws(values, (Trust(),) * count)

    @staticmethod
    def joined(parts: Sequence[Draws]) -> Draws:
        """The draws for the observations of all parts, one part after the other."""
        names = parts[0].values
        values = {name: torch.cat([part.values[name] for part in parts], 1) for name in names}
        return Draws(values, tuple(one for part in parts for one in part.trust))

    def __len__(self) -> int:
        """Number of observations."""
        return len(self.trust)

    @property
    def count(self) -> int:
        """Draws an observation, n."""
        return len(next(iter(self.values.values())))

    def select(self, rows: Sequence[int]) -> Draws:
        """Those for some of the observations."""
        chosen = {name: value[:, list(rows)] for name, value in self.values.items()}
        return Draws(chosen, tuple(self.trust[row] for row in rows))


class Sampler(ABC):
    """Draws from the posterior of the latents of `spec`."""

    spec: Spec

    @abstractmethod
    def sample(self, observation: Values, n: int, *, seeds: NDArray[np.int64]) -> Draws:
        """Draw `n` joint samples for each of B observations.

        Args:
            observation: observed variables, each (B, *shape).
            n: draws an observation.
            seeds: (B,), integers in [0, 2^63): the draws for observation b depend on it and on seeds[b]
                alone, to rounding: not on other observations, their number or order, nor on threads.

        Raises:
            ObservationError: the observation does not fit the problem, or there is not one seed for each.
        """


class SupportsBatches(Protocol):
    """A sampler that computes several observations together, so that rounding depends on which.

    Workers then draw whole batches, and what they draw is to the bit what one process draws.
    """

    def batch_size(self, observation: Values) -> int:
        """How many of observations, each (B, *shape), it takes together, one batch after the other."""
        ...

    def in_batches(self, size: int) -> Sampler:
        """The same sampler, which takes so many observations together, however many there are."""
        ...


class SupportsPrecision(Protocol):
    """A sampler whose networks may multiply in another precision."""

    def in_precision(self, precision: torch.dtype) -> Sampler:
        """The same sampler with products inside its networks in this precision, and all around them in
        float32: its draws differ by far less than they scatter.
        """
        ...


class SupportsGiven(Protocol):
    """A sampler that can be told some of the latents, and draws the others from their posterior given these,
    too.
    """

    def given(self, names: Collection[str]) -> Sampler:
        """The sampler to which the latents of these names are observed: `spec.given(*names)`.

        Raises:
            UnsupportedError: it cannot draw the others given these.
            SpecError: see `Spec.given`.
        """
        ...


class ExactSampler(Plugin[OptionsT_co]):
    """Draws from a simulator's exact posterior without training; hook `sbikit_samplers`."""

    @abstractmethod
    def posterior(
        self, simulator: Simulator, *, monitor: Monitor, device: torch.device | str = "cpu"
    ) -> Sampler:
        """The simulator's posterior.

        Args:
            simulator: whose posterior it is.
            monitor: where the sampler reports when it draws.
            device: where it computes, if it can choose.

        Raises:
            UnsupportedError: it cannot be had of this simulator.
        """
