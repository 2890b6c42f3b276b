"""Supports of variables: the bounds of those that are an interval, and a text that is the same in any process."""

from __future__ import annotations

import math
from typing import Any

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
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    low, high = (getattr(support, f"{side}_bound", None) for side in ("lower", "upper"))
    known = low is not None or high is not None or support is constraints.real
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
