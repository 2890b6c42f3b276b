"""Is all randomness of a draw that of its own seed? Two further draws tell, a few more what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbikit.problem.errors import SimulationError
from sbikit.problem.variables import Values, Variable

Draw = Callable[[Sequence[int], NDArray[np.int64]], Values]
"""Rows of a batch's parameters and one seed for each -> what is drawn for them, each (rows, *shape)."""

_OTHER = 0x2545F4914F6CDD1D  # makes other seeds in [0, 2^63), by bits from all of them
ROUNDING = 1e-4  # of a variable's sd: a thousand times float32's, and far below what a simulator means


def distance(got: Tensor, expected: Tensor, like: Tensor) -> tuple[float, float]:
    """The largest difference of two tensors, and the largest that rounding explains.

    Args:
        got, expected: of one shape.
        like: its standard deviation is the scale, any shape.
    """
    sd = float(like.double().std()) if like.numel() > 1 else 1.0
    apart = float((got.double() - expected.double()).abs().max()) if got.numel() else 0.0
    return apart, ROUNDING * sd + 1e-6 * float(expected.double().abs().max() if got.numel() else 0.0)


def check_seeding(
    variables: Sequence[Variable], batch: Values, draw: Draw, seeds: NDArray[np.int64], where: str
) -> bool:
    """Draw the last row of a batch again, alone, by its own seed and by another.

    Args:
        variables: what is drawn.
        batch: what `draw` gave for all rows, each (B, *shape).
        draw: draws some of the rows.
        seeds: (B,) of the batch.
        where: the call, for messages.

    Returns:
        Whether seeds matter: False if the other seed gives the same, as a simulator without noise does.

    Raises:
        SimulationError: the draw is not the same alone.
    """
    last = len(seeds) - 1
    alone = draw([last], seeds[last:])
    other = draw([last], seeds[last:] ^ _OTHER)
    for variable in variables:
        expected = batch[variable.name]
        apart, rounding = distance(alone[variable.name], expected[last:], expected)
        if not apart <= rounding:
            fault = _fault(variable, batch, alone, draw, seeds)
            raise _refusal(fault, variable.name, where, f"a difference of {apart:.3g}")
    return not _equal(alone, other, variables)


# What is wrong with a draw that is not the same alone and in its batch, and how to mend it.
_NOT_REPEATED = (
    "{name!r} is not the same for the same seeds: every call gives another one.",
    "make all random numbers from `seeds`, at every call anew: a generator that is kept, or one without a "
    "seed, goes on where the last call left it",
)
_IGNORED = (
    "The seeds are ignored: random numbers of {name!r} come from the row in the batch.",
    "make the random numbers of draw i from seeds[i]: np.random.default_rng(seeds[i]), or "
    "sbikit.normals(seeds, shape)",
)
_BATCHED = (
    "A draw of {name!r} is not the same alone and in a batch.",
    "make the random numbers of draw i from seeds[i], not from seeds[0] or all of them, and take nothing "
    "(a mean, a scale) from the batch",
)


def _fault(
    variable: Variable, batch: Values, alone: Values, draw: Draw, seeds: NDArray[np.int64]
) -> tuple[str, str]:
    """Which of them it is."""
    last = len(seeds) - 1
    if not _equal(alone, draw([last], seeds[last:]), (variable,)):
        return _NOT_REPEATED
    ignored = _equal(batch, draw(range(len(seeds)), seeds ^ _OTHER), (variable,))
    return _IGNORED if ignored else _BATCHED


def _refusal(fault: tuple[str, str], name: str, where: str, got: str) -> SimulationError:
    message, fix = fault
    return SimulationError(
        message.format(name=name),
        where=where,
        expected="a draw that depends on its parameters and its seed alone",
        got=got,
        fix=fix,
    )


def _equal(one: Values, other: Values, variables: Sequence[Variable]) -> bool:
    return all(torch.equal(one[v.name], other[v.name]) for v in variables)
