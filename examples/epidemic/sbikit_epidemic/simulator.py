"""A random epidemic day by day: who is susceptible, infected, recovered (Kermack and McKendrick 1927).

On each day every susceptible person is infected with probability 1 - exp(-beta I / N), beta = R0 / duration,
and every infected one recovers with probability 1 - exp(-1 / duration): a chain of binomial numbers, as that
of Reed and Frost (Abbey 1952), where infections last. Of the new cases a known share is reported.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Option
from torch.distributions import constraints

from sbikit import Field, LogUniform, Options, Prior, Simulator, Uniform


class EpidemicOptions(Options):
    """Options of `epidemic`."""

    people: int = Option(1000, ge=10, le=10**6, description="who live in the town")
    infected: int = Option(5, ge=1, le=1000, description="of them on the first day")
    days: int = Option(40, ge=4, le=1000, description="that are watched")
    reported: float = Option(0.4, gt=0, le=1, description="share of the new cases that are reported")


class Epidemic(Simulator[EpidemicOptions]):
    """How contagious it is, how long it lasts, and how many are infected on each day, from reports."""

    prior = Prior(
        {"R0": LogUniform(1.0, 6.0), "duration": Uniform(2.0, 10.0)},
        latex={"R0": "R_0", "duration": r"\tau"},
        units={"duration": "d"},
    )
    observed = ("reports",)

    def __init__(self, options: EpidemicOptions | None = None) -> None:
        super().__init__(options)
        time = {"extent": (float(self.options.days),), "extent_unit": "d"}
        grid = (self.options.days,)
        self.outputs = (
            Field("infected", grid, latex="I", support=constraints.greater_than_eq(0.0), **time),
            Field("reports", grid, latex="y", **time),
        )

    def simulate_one(
        self, parameters: Mapping[str, float], rng: np.random.Generator
    ) -> dict[str, NDArray[np.floating]]:
        """One epidemic: `infected` and `reports`, a number a day."""
        o = self.options
        rates = np.array([[parameters["R0"]], [parameters["duration"]]])
        state = State(o, 1)
        infected, reports = np.zeros(o.days), np.zeros(o.days)
        for day in range(o.days):
            new = state.advance(*rates, rng)
            infected[day], reports[day] = state.infected[0], rng.binomial(new[0], o.reported)
        return {"infected": infected, "reports": reports}


class State:
    """How many are susceptible and infected in each of many epidemics.

    Args:
        options: of the simulator.
        count: of the epidemics.
    """

    def __init__(self, options: EpidemicOptions, count: int) -> None:
        self._people = options.people
        self.infected = np.full(count, options.infected)
        self.susceptible = options.people - self.infected

    def advance(
        self, R0: NDArray[np.floating], duration: NDArray[np.floating], rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """A day; how many are infected on it, (count,)."""
        force = R0 / duration * self.infected / self._people
        new = rng.binomial(self.susceptible, -np.expm1(-force))
        recovered = rng.binomial(self.infected, -np.expm1(-1.0 / duration))
        self.susceptible = self.susceptible - new
        self.infected = self.infected + new - recovered
        return new

    def pick(self, rows: NDArray[np.int64]) -> None:
        """Go on with some of the epidemics, in this order."""
        self.susceptible, self.infected = self.susceptible[rows], self.infected[rows]
