"""What samplers by gradients need of a simulator: its log density, or a refusal that says what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sbikit import (
    LogDensity,
    SbikitError,
    SimulationError,
    Simulator,
    SupportsLogDensity,
    UnsupportedError,
    Values,
    copied,
    supports,
)

STARTS = 100
"""How often a start is drawn anew where the density is not finite, as often as by Stan."""


def log_density_of(simulator: Simulator, sampler: str) -> Callable[[Values], LogDensity]:
    """The simulator's method `log_density`, which gets copies of the observations.

    Args:
        simulator: whose posterior is wanted.
        sampler: name of the sampler that needs it, for the message.

    Raises:
        UnsupportedError: it has none.
    """
    if not supports(simulator, SupportsLogDensity):
        name = type(simulator).__name__
        raise UnsupportedError(
            f"{name} has no differentiable log density, so gradient-based sampling is impossible.",
            where=f"sampler '{sampler}'",
            expected="a simulator with the method log_density(observation) -> LogDensity",
            got=name,
            fix="use --estimator diffusion-transformer or npe, or add the method log_density",
        )
    log_density = simulator.log_density

    def density_of(observation: Values) -> LogDensity:
        return log_density(copied(observation))

    return density_of


def cannot_be_sampled(why: str) -> SimulationError:
    """The refusal of a density that raises, or is finite nowhere."""
    return SimulationError(
        f"The log density cannot be sampled: {why}",
        where="log_density of the simulator",
        expected="finite values and gradients at coordinates drawn from N(0, 1)",
        fix="mend log_density there",
    )


@contextmanager
def errors_of_the_density() -> Iterator[None]:
    """What the simulator raises, as our own error.

    Raises:
        SimulationError: anything but our own errors and interruptions was raised.
    """
    try:
        yield
    except SbikitError:
        raise
    except Exception as cause:
        raise cannot_be_sampled(f"{type(cause).__name__}: {cause}") from cause
