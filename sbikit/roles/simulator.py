"""The simulator, and what it may be able to do beyond simulating: each a protocol of one method, opt-in.

`sbikit.supports(simulator, SupportsFloor)` tells whether a simulator's class has a capability.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbikit.problem.errors import PluginError, SpecError
from sbikit.problem.gaps import told
from sbikit.problem.prior import Prior
from sbikit.problem.spec import Spec
from sbikit.problem.variables import Values, Variable
from sbikit.roles.one_by_one import simulate_each
from sbikit.roles.plugin import OptionsT_co, Plugin


class Simulator(Plugin[OptionsT_co]):
    """Makes joint draws of parameters, fields and data.

    A subclass sets its attributes in the class or in `__init__`, and has `simulate`, many draws at once, or
    `simulate_one`.

    Attributes:
        prior: laws of the parameters.
        outputs: the variables that a draw has.
        observed: names of the outputs that an instrument sees; the others are inferred
            together with the parameters. Of those that have a `fill`, numbers may be missing, NaN.
        summarised: the fields and vectors that `summaries` makes of the data, none where it has no such
            method.
    """

    prior: Prior
    outputs: tuple[Variable, ...]
    observed: tuple[str, ...]
    summarised: tuple[Variable, ...] = ()

    def simulate_one(self, parameters: Mapping[str, float], rng: np.random.Generator) -> Mapping[str, Any]:
        """Simulate one draw.

        Args:
            parameters: their values by label.
            rng: where all randomness of the draw comes from; it is made of the draw's seed.

        Returns:
            Every output, numpy or torch, of its variable's shape; the axis of a single channel, or of a
            vector of one number, may be left out.
        """
        del parameters, rng
        name = type(self).__name__
        raise PluginError(
            f"{name} does not say how to simulate.",
            where=name,
            expected="a method simulate_one(self, parameters, rng), or simulate(self, parameters, *, seeds)",
            fix="write one of them",
        )

    def simulate(
        self, parameters: Values, *, seeds: NDArray[np.int64]
    ) -> Mapping[str, Tensor | NDArray[np.floating]]:
        """Simulate one draw a parameter vector; by `simulate_one`, where a subclass has no faster way.

        Args:
            parameters: `{prior.name: (B, D)}`, float32 tensors (`numpy.asarray` reads them).
            seeds: (B,) integers in [0, 2^63): all randomness of draw i comes from seeds[i],
                so a draw is the same alone and in any batch.

        Returns:
            Every output, numpy or torch, `(B, *variable.shape)`.

        Raises:
            PluginError: an output of a draw of `simulate_one` has another shape.
        """
        given = self.prior, self.outputs, parameters
        return simulate_each(self.simulate_one, *given, seeds=seeds, where=method_of(self))

    @cached_property
    def drawn(self) -> tuple[Variable, ...]:
        """The outputs, and which numbers are seen of those that can be missing (`sbikit.seen_of`)."""
        return told(self.outputs)

    @cached_property
    def spec(self) -> Spec:
        """Parameters and unobserved outputs given the observed ones."""
        known = {variable.name for variable in self.outputs}
        missing = [name for name in self.observed if name not in known]
        if missing or not self.observed:
            raise SpecError(
                f"{type(self).__name__}.observed must name outputs of the simulator.",
                where=f"{type(self).__name__}.observed",
                expected="one or more of " + ", ".join(sorted(known)),
                got=", ".join(self.observed) or "nothing",
            )
        hidden = tuple(v for v in self.outputs if v.name not in self.observed)
        gaps = [v.name for v in hidden if v.fill is not None]
        if gaps:
            raise SpecError(
                f"{gaps[0]!r} is inferred, and has a value that stands for missing ones.",
                where=f"{type(self).__name__}.outputs",
                expected="`fill` of observed variables alone",
                fix="leave it out, or name the variable among the observed ones",
            )
        seen = tuple(v for v in self.drawn if v.name in self.observed or v.tells in self.observed)
        return Spec((self.prior.variable, *hidden), seen)


def method_of(simulator: Simulator) -> str:
    """What a simulator simulates by, for messages: "Mine.simulate", or "Mine.simulate_one"."""
    cls = type(simulator)
    return f"{cls.__name__}.{'simulate_one' if cls.simulate is Simulator.simulate else 'simulate'}"


@dataclass(frozen=True)
class LogDensity:
    """The joint log density of latents and data at fixed data, in coordinates made for sampling.

    In white coordinates the prior of parameters and latent randomness is a standard normal. A simulator may
    choose others in which the posterior is simpler, as long as standard normal numbers are starts that do not
    know the truth and are spread wider than the posterior. Additive constants are left out, Jacobians are
    not. Where there is no density its logarithm is minus infinity or not a number.

    Args:
        size: number of coordinates.
        log_prob: (*n, B, size) -> (*n, B), differentiable by autograd, float64 throughout; it may be called
            from several threads at once.
        decode: (*n, B, size) -> latents, each (*n, B, *variable.shape).
        parameters: how many coordinates, the first ones, are those of the parameters; samplers learn how
            these depend on each other.
        gradient: (*n, B, size) float32 -> the gradient of log_prob there, float32, if it can be had for much
            less than by autograd. It need only be near: samplers propose by it and accept by log_prob. It may
            be called from several threads at once.
    """

    size: int
    log_prob: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Values]
    parameters: int = 0
    gradient: Callable[[Tensor], Tensor] | None = None


@runtime_checkable
class SupportsLogDensity(Protocol):
    """Has a tractable, differentiable density: gradient-based samplers become possible."""

    def log_density(self, observation: Values) -> LogDensity:
        """The density given observations `(B, *shape)`."""
        ...


@dataclass(frozen=True)
class MarginalDensity:
    """A posterior in two exact steps: the parameters with the latent fields integrated out, then the fields.

    Args:
        log_likelihood: parameters (Q, D) -> log p(data | parameters) but for a constant of the data, (B, Q),
            float64; not finite where there is none.
        draw: (parameters (n, D), b, generator) -> the latent fields of observation b, each (n, *shape), every
            row from p(fields | its parameters, data).
    """

    log_likelihood: Callable[[Tensor], Tensor]
    draw: Callable[[Tensor, int, torch.Generator], Values]


@runtime_checkable
class SupportsMarginalDensity(Protocol):
    """Knows its posterior in closed form given the parameters: independent exact draws become possible."""

    def marginal_density(self, observation: Values) -> MarginalDensity:
        """The densities given observations `(B, *shape)`, B of 0 included.

        Raises:
            UnsupportedError: with its options the fields cannot be integrated out.
        """
        ...


@runtime_checkable
class SupportsObserve(Protocol):
    """Can add noise alone: fresh noise on stored simulations."""

    def observe(self, outputs: Values, *, seeds: NDArray[np.int64]) -> Values:
        """Observed variables for the latents `(B, *shape)`, parameters among them.

        Raises:
            UnsupportedError: with its options the latents do not fix the data but for noise.
        """
        ...


@runtime_checkable
class SupportsGivenDraws(Protocol):
    """Has no simulator: its joint draws were made elsewhere, are imported, and are all that there are."""

    def given_draws(self) -> Path | None:
        """The file of named arrays that holds them; None where `sbikit simulate DIR --import` names it."""
        ...


@runtime_checkable
class SupportsSummaries(Protocol):
    """Knows maps that summarise its data, for example a Kaiser-Squires inversion, or vectors that do, for
    example compressed statistics.
    """

    def summaries(self, values: Values) -> Values:
        """The variables of `Simulator.summarised`, `(*batch, *variable.shape)`, of the data
        `(*batch, *shape)`.
        """
        ...


@runtime_checkable
class SupportsFacts(Protocol):
    """Knows what its options amount to, in figures that a reader of a result should see."""

    def facts(self) -> Mapping[str, str]:
        """What is told -> the figure or the convention, in words; the report shows them in this order."""
        ...


@runtime_checkable
class SupportsFloor(Protocol):
    """Knows a lower bound of a latent field that depends on the parameters."""

    def floor(self, parameters: Values) -> Values:
        """Field name -> lower bound a channel, `(*batch, C)`, for parameters `(*batch, D)`.

        Fields without a bound are left out.
        """
        ...


@runtime_checkable
class SupportsMasks(Protocol):
    """Knows where its data are masked: they are 0 there, and what an observation holds there is not read."""

    def masks(self) -> Values:
        """Observed field name -> bool, `(C, *grid)`, true where something is observed.

        Fields without a mask are left out.
        """
        ...
