"""Data that can be missing, number by number: what stands in their place, and what tells which are seen.

A simulator returns NaN where a number is missing, and so does whoever observes. Estimators and samplers never
see it: they see the variable's `fill` there, and beside the variable another one that tells where.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints

from sbikit.problem.variables import Variable, Vector


def seen_of(variable: Variable) -> Variable:
    """What tells which numbers of a variable are seen, 1, and which are missing, 0: NAME_seen, of its
    shape.
    """
    name = f"{variable.name}_seen"
    common: dict[str, Any] = {"support": constraints.real, "fill": None, "tells": variable.name}
    if isinstance(variable, Vector):
        labels = tuple(f"{label} seen" for label in variable.labels)
        return replace(variable, name=name, labels=labels, units=(), latex=labels, **common)
    return replace(variable, name=name, unit="", latex=name, estimates="", **common)


def told(variables: Iterable[Variable]) -> tuple[Variable, ...]:
    """Variables, each that can be missing in part followed by what tells which of its numbers are seen."""
    return tuple(v for one in variables for v in ((one,) if one.fill is None else (one, seen_of(one))))


def filled(values: Mapping[str, Tensor], variables: Iterable[Variable]) -> dict[str, Tensor]:
    """Values in which nothing is missing, and what tells where something was.

    Args:
        values: name -> (*batch, *shape); of variables that can be missing NaN where they are.
        variables: what they are.

    Returns:
        The values of these variables, with `fill` for NaN, and of each that can be missing NAME_seen: 1 where
        it is seen and 0 elsewhere. Infinite values stay.
    """
    found: dict[str, Tensor] = {}
    for variable in variables:
        value = found[variable.name] = values[variable.name]
        if variable.fill is not None:
            gaps = value.isnan()
            fill = torch.as_tensor(variable.fills, dtype=value.dtype, device=value.device)
            found[variable.name] = torch.where(gaps, fill.view(-1, *[1] * (len(variable.shape) - 1)), value)
            found[seen_of(variable).name] = (~gaps).float()
    return found
