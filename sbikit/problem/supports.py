"""Supports of variables: the bounds of intervals, and a text that is the same in any process."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.constraints import Constraint

from sbikit.problem.errors import UnsupportedError


def support_bounds(name: str, support: Constraint) -> tuple[float, float]:
    """Lower and upper bound of each value of a variable, infinite where there is none.

    Args:
        name: the variable's, for the message.
        support: the set each value lies in.

    Raises:
        UnsupportedError: it is discrete, or no interval that is the same for all values.
    """
    support = _of_a_value(support)
    low, high = (getattr(support, f"{side}_bound", None) for side in ("lower", "upper"))
    known = low is not None or high is not None or isinstance(support, type(constraints.real))
    one_number = all(not isinstance(x, Tensor) or x.numel() == 1 for x in (low, high))
    discrete = known and bool(support.is_discrete)
    if not known or not one_number or discrete:
        raise UnsupportedError(
            f"The support of {name!r} is no interval of real numbers.",
            where=f"{name}.support",
            expected="constraints.real, or an interval with the same one or two bounds for every value",
            got=("discrete: " if discrete else "") + describe_support(support),
            fix="declare such a support, or keep the variable out of the latents",
        )
    return -math.inf if low is None else float(low), math.inf if high is None else float(high)


def round_into(name: str, support: Constraint, values: Tensor) -> Tensor:
    """The nearest float32 numbers that lie in a support that is an interval.

    Args:
        name: the variable's, for the message.
        support: the set each value lies in.
        values: of any shape.

    Raises:
        UnsupportedError: it is discrete, or no interval that is the same for all values.
    """
    low, high = support_bounds(name, support)
    single = _of_a_value(support)

    def holds(number: float) -> bool:
        return bool(single.check(torch.tensor(number, dtype=torch.float64)).all())

    return values.float().clamp(innermost(low, math.inf, holds), innermost(high, -math.inf, holds))


def innermost(bound: float, inwards: float, holds: Callable[[float], bool]) -> float:
    """The float32 number nearest to a bound that lies on it or inwards of it and is part of a set.

    Args:
        bound: of an interval, which may be open there.
        inwards: plus or minus infinity.
        holds: whether a number is part of the set.
    """
    if math.isinf(bound):
        return bound
    with np.errstate(over="ignore"):
        number = np.float32(bound)
    for _ in range(2):
        beyond = float(number) < bound if inwards > 0 else float(number) > bound
        if not beyond and holds(float(number)):
            break
        number = np.nextafter(number, np.float32(inwards))
    smallest = math.copysign(float(np.finfo(np.float32).tiny), inwards)
    return smallest if number != 0 and abs(float(number)) < abs(smallest) else float(number)


def _of_a_value(support: Constraint) -> Constraint:
    """A support without what only says that values come in vectors or maps."""
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support


def describe_support(support: Constraint) -> str:
    """A text that tells a support from others, without its place in memory."""
    values = (f"{key}={_plain(value)}" for key, value in sorted(vars(support).items()))
    return f"{type(support).__name__.removeprefix('_')}({', '.join(values)})"


def _plain(value: Any) -> str:
    if isinstance(value, Constraint):
        return describe_support(value)
    if isinstance(value, Tensor):
        return str(value.tolist())
    if isinstance(value, list | tuple):
        return f"[{', '.join(_plain(part) for part in value)}]"
    return repr(value) if isinstance(value, bool | int | float | str) else type(value).__name__
