"""What every sampler here does around its own way of drawing: check, join, and say what not to trust."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from sbikit import Draws, Monitor, Sampler, Spec, Trust, Values, check_observation


class JudgedSampler(Sampler):
    """A sampler that judges its draws.

    Args:
        spec: the problem.
        monitor: hears of progress, and of draws that cannot be trusted.
        device: where observations are wanted.

    Attributes:
        name: what it is called in messages.
        gravest: the reading by which the worst observation is chosen, the higher the worse.
        remedy: what helps where draws cannot be trusted.
    """

    name: ClassVar[str]
    gravest: ClassVar[str]
    remedy: ClassVar[str]

    def __init__(self, spec: Spec, monitor: Monitor, device: torch.device) -> None:
        self.spec, self.monitor, self.device = spec, monitor, device

    def sample(self, observation: Values, n: int, *, seeds: NDArray[np.int64]) -> Draws:
        """Draw `n` joint samples for each of B observations; see `Sampler.sample`.

        Raises:
            ObservationError: the observation does not fit the simulator, or there is not one seed for each.
            SimulationError: the simulator's density raised or is not finite.
        """
        check_observation(observation, self.spec, seeds)
        seen = {v.name: torch.as_tensor(observation[v.name]).to(self.device) for v in self.spec.observables}
        none = Draws({v.name: torch.empty(n, 0, *v.shape) for v in self.spec.latents}, ())
        draws = Draws.joined([none, *self._parts(seen, n, seeds)])
        self._warn(draws.trust)
        return draws

    @abstractmethod
    def _parts(self, observation: Values, n: int, seeds: NDArray[np.int64]) -> Iterable[Draws]:
        """Draws for all observations, each (B, *shape), in parts of consecutive ones."""

    def _warn(self, trust: Sequence[Trust]) -> None:
        doubtful = [one for one in trust if not one.trustworthy]
        if not doubtful:
            return
        worst = max(doubtful, key=self._gravity)
        self.monitor.say(
            f"{self.name}: do not trust the draws for {len(doubtful)} of {len(trust)} observations; the "
            f"worst: {'; '.join(worst.complaints)}. {self.remedy}"
        )

    def _gravity(self, trust: Trust) -> float:
        value = trust.value(self.gravest)
        return math.inf if math.isnan(value) else value


def rows_of(observation: Values, first: int, count: int = 1) -> Values:
    """The observations `first` to `first + count - 1`."""
    return {name: value[first : first + count] for name, value in observation.items()}
