"""Between which numbers a variable's scalars can lie."""

from __future__ import annotations

import math
from typing import TypeAlias

from sbikit.problem.prior import Prior
from sbikit.problem.variables import Vector

Bounds: TypeAlias = tuple[tuple[float, float], ...]
"""Lowest and highest value of every scalar of a vector; infinite where there is none."""


def bounds(vector: Vector, prior: Prior) -> Bounds:
    """Of the parameters those of their laws, of another vector those of its support."""
    if vector.name == prior.name:
        return tuple(_ends(law, "low", "high") for law in prior.laws.values())
    return (_ends(vector.support, "lower_bound", "upper_bound"),) * len(vector.labels)


def _ends(owner: object, low: str, high: str) -> tuple[float, float]:
    return float(getattr(owner, low, -math.inf)), float(getattr(owner, high, math.inf))
