"""A posterior that is wrong on purpose, to hear the alarms ring."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sbikit.problem.variables import Values
from sbikit.roles.sampler import Draws, Sampler


class Spoiled(Sampler):
    """A wrong posterior made from a right one, to hear the alarms ring.

    Args:
        sampler: the right one.
        shift: how far every draw is moved, in posterior standard deviations of each scalar.
        scale: factor on the distance of every draw from the posterior mean.
        variables: names of the latents to spoil; all where left out.
    """

    def __init__(
        self,
        sampler: Sampler,
        shift: float = 0.0,
        scale: float = 1.0,
        variables: tuple[str, ...] = (),
    ) -> None:
        names = tuple(v.name for v in sampler.spec.select(*variables).latents) if variables else ()
        self.spec = sampler.spec
        self.shift, self.scale = shift, scale
        self._sampler = sampler
        self._variables = names or tuple(v.name for v in sampler.spec.latents)

    def sample(self, observation: Values, n: int, *, seeds: NDArray[np.int64]) -> Draws:
        """The wrapped sampler's draws, shifted and scaled."""
        found = self._sampler.sample(observation, n, seeds=seeds)
        draws = dict(found.values)
        for name in self._variables:
            mean = draws[name].mean(0)
            sd = draws[name].std(0, correction=0)
            draws[name] = mean + self.scale * (draws[name] - mean) + self.shift * sd
        return Draws(draws, found.trust)
