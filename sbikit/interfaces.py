"""The four nouns: a Simulator draws parameters, fields and data jointly; an Estimator learns a
Sampler from such draws; a Sampler draws from a posterior; a Validator judges draws against the
truths that they should cover.

What a simulator can do beyond simulating is a capability: a protocol of one method, opt-in.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbikit.errors import SpecError
from sbikit.options import Options as BaseOptions
from sbikit.prior import Prior
from sbikit.variables import Spec, Values, Variable

if TYPE_CHECKING:
    from sbikit.simulations import Simulations


class Plugin(ABC):  # noqa: B024 - abstract through its children
    """Anything made from options."""

    Options: ClassVar[type[BaseOptions]] = BaseOptions

    def __init__(self, options: BaseOptions | None = None) -> None:
        self.options = self.Options() if options is None else options


# --- simulators -----------------------------------------------------------------------------


class Simulator(Plugin):
    """Makes joint draws of parameters, fields and data.

    A subclass sets its attributes in the class or in `__init__`.

    Attributes:
        prior: laws of the parameters.
        outputs: the variables that `simulate` returns.
        observed: names of the outputs that an instrument sees; the others are inferred
            together with the parameters.
    """

    prior: Prior
    outputs: tuple[Variable, ...]
    observed: tuple[str, ...]

    @abstractmethod
    def simulate(
        self, parameters: Values, *, seeds: NDArray[np.int64]
    ) -> Mapping[str, Tensor | NDArray[np.floating]]:
        """Simulate one draw a parameter vector.

        Args:
            parameters: `{prior.name: (B, D)}`, float32 tensors (`numpy.asarray` reads them).
            seeds: (B,) integers in [0, 2^63): all randomness of draw i comes from seeds[i],
                so a draw is the same alone and in any batch.

        Returns:
            Every output, numpy or torch, `(B, *variable.shape)`.
        """

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
        seen = tuple(v for v in self.outputs if v.name in self.observed)
        return Spec((self.prior.variable, *hidden), seen)


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


@runtime_checkable
class SupportsObserve(Protocol):
    """Can add noise alone: fresh noise on stored simulations."""

    def observe(self, outputs: Values, *, seeds: NDArray[np.int64]) -> Values:
        """Observed variables for the unobserved outputs `(B, *shape)`."""
        ...


@runtime_checkable
class SupportsSummaries(Protocol):
    """Knows maps that summarise its data, for example a Kaiser-Squires inversion."""

    def summaries(self, values: Values) -> Values:
        """Summary fields `(*batch, C, *grid)` of observed variables `(*batch, *shape)`."""
        ...


@runtime_checkable
class SupportsFloor(Protocol):
    """Knows a lower bound of a latent field that depends on the parameters."""

    def floor(self, parameters: Values) -> Values:
        """Field name -> lower bound a channel, `(*batch, C)`, for parameters `(*batch, D)`."""
        ...


# --- samplers and estimators ----------------------------------------------------------------


class Sampler(ABC):
    """Draws from the posterior of the latents of `spec`.

    A sampler that is a plug-in of its own (hook `sbikit_samplers`) also derives from `Plugin`
    and is built as `Class(simulator, options)`.
    """

    spec: Spec

    @abstractmethod
    def sample(self, observation: Values, n: int, *, seed: int) -> Values:
        """Draw `n` joint samples for each of B observations.

        Args:
            observation: observed variables, each (B, *shape).
            n: draws an observation.
            seed: fixes the draws.

        Returns:
            The latents of `spec`, each (n, B, *shape), float32 on the CPU.
        """


class Trust(Protocol):
    """How far the draws for one observation can be trusted; a dataclass, whose other fields tell why."""

    @property
    def trustworthy(self) -> bool:
        """Whether they may be called exact."""
        ...


@runtime_checkable
class SupportsDiagnostics(Protocol):
    """A sampler that judges its own draws: one entry for each observation of the latest `sample`."""

    diagnostics: Sequence[Trust]


class Monitor(Protocol):
    """Where a long computation reports, and what it is allowed to use."""

    folder: Path | None
    """Where checkpoints of unfinished work may be kept; None: nowhere."""
    device: torch.device

    def progress(
        self, title: str, total: int, start: int = 0
    ) -> AbstractContextManager[Callable[[int], None]]:
        """A progress bar with rate and time left: call the result with the number of new units done."""
        ...

    def log(self, **record: float | int | str) -> None:
        """Append one record to the training log."""
        ...

    def say(self, text: str) -> None:
        """Tell the user one line."""
        ...


class QuietMonitor:
    """A `Monitor` that reports nothing.

    Args:
        folder: where checkpoints of unfinished work may be kept; None: nowhere.
        device: what the computation may use.
    """

    def __init__(self, folder: Path | None = None, device: str | torch.device = "cpu") -> None:
        self.folder = folder
        self.device = torch.device(device)

    def progress(
        self, title: str, total: int, start: int = 0
    ) -> AbstractContextManager[Callable[[int], None]]:
        """No bar."""

        def ignore(done: int) -> None:
            del done

        return nullcontext(ignore)

    def log(self, **record: float | int | str) -> None:
        """Nothing is kept."""

    def say(self, text: str) -> None:
        """Nothing is said."""


class Estimator(Plugin):
    """Learns a sampler from simulations."""

    def match(self, spec: Spec) -> Spec:
        """The part of `spec` that this estimator can infer, before any work is done.

        Raises:
            UnsupportedError: it can infer none of it.
        """
        return spec

    @abstractmethod
    def fit(self, simulations: Simulations, *, seed: int, monitor: Monitor) -> Sampler:
        """Learn the posterior. Goes on from what `monitor.folder` holds of an interrupted fit."""

    @abstractmethod
    def save(self, sampler: Sampler, folder: Path) -> None:
        """Write a fitted sampler: safetensors for weights, JSON for the rest."""

    @abstractmethod
    def load(self, folder: Path, simulator: Simulator, *, device: torch.device) -> Sampler:
        """Read what `save` wrote.

        Raises:
            CheckpointError: the folder is damaged or belongs to another problem.
        """


# --- validators -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """Draws of an exact sampler, and as many of the judged one as half of them.

    The exact sampler's first and second half are independent of each other, so what they differ by is what
    the judged draws would differ by if they were exact.

    Args:
        name: the exact sampler's name.
        rows: (R,) which of the held-out observations; only those whose draws can be trusted.
        exact: its draws of the latents, each (2 n, R, *shape).
        draws: the judged draws of the latents, each (n, R, *shape).
    """

    name: str
    rows: tuple[int, ...]
    exact: Values
    draws: Values


@dataclass(frozen=True)
class Evidence:
    """What a validator judges.

    Args:
        spec: the problem that was inferred.
        truth: held-out latents, each (B, *shape).
        observation: their data, each (B, *shape).
        draws: posterior draws of the latents, each (n, B, *shape).
        training: M draws of all variables from the training stream, each (M, *shape): they
            alone may fix scales and centres, so that nothing is tuned on the truths.
        comparison: draws of an exact sampler for some observations; None where none was asked for.
    """

    spec: Spec
    truth: Values
    observation: Values
    draws: Values
    training: Values
    comparison: Comparison | None = None


Verdict = Literal["pass", "fail", "none"]


@dataclass(frozen=True)
class Metric:
    """One figure.

    Args:
        name: what was measured.
        variable: a latent's name, with the label of a scalar after a dot ("theta.S8"), or "joint".
        value: the figure.
        error: its standard error.
        ideal: what it is for an exact posterior; None where that is not known.
        verdict: the judgement; none where there is nothing to judge by.
        meaning: one line for the reader.
        floor: the same figure between two sets of exact draws; None where it has none.
        floor_error: the standard error of that.
    """

    name: str
    variable: str
    value: float
    error: float
    ideal: float | None
    verdict: Verdict
    meaning: str
    floor: float | None = None
    floor_error: float | None = None


@dataclass(frozen=True)
class Curve:
    """One curve with its band; all sequences have one length."""

    name: str
    variable: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    ideal: tuple[float, ...]
    x_label: str
    y_label: str


@dataclass(frozen=True)
class Report:
    """What a validator found."""

    validator: str
    metrics: tuple[Metric, ...]
    curves: tuple[Curve, ...] = ()
    references: tuple[str, ...] = field(default=())


class Validator(Plugin):
    """Judges draws against truths.

    Attributes:
        needs_reference: whether it works on `Evidence.comparison` alone.
    """

    needs_reference: ClassVar[bool] = False

    @abstractmethod
    def validate(self, evidence: Evidence, *, seed: int) -> Report:
        """Judge; every metric has its standard error, ideal value and verdict."""
