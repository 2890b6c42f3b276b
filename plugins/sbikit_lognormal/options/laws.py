"""A parameter's value, or its law."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import pydantic

from sbikit import Options

if TYPE_CHECKING:
    from sbikit import Law


class UniformLaw(Options):
    """A parameter that is free, uniform between two values."""

    uniform: tuple[float, float] = pydantic.Field(description="lowest and highest value")

    @pydantic.model_validator(mode="after")
    def _ascends(self) -> UniformLaw:
        if not self.uniform[0] < self.uniform[1]:
            raise ValueError("the lowest value must be below the highest")
        return self

    def law(self, _limits: tuple[float, float]) -> Law:
        """The law; its range, `reach`, has to lie within the limits."""
        from sbikit import Uniform

        return Uniform(*self.uniform)

    def reach(self) -> tuple[float, float]:
        """Lowest and highest value."""
        return self.uniform


class NormalLaw(Options):
    """A parameter that is free, normal; where values have limits, cut off there."""

    normal: tuple[float, Annotated[float, pydantic.Field(gt=0.0)]] = pydantic.Field(
        description="mean and standard deviation"
    )

    def law(self, limits: tuple[float, float]) -> Law:
        """The law, cut off at the limits where one is finite."""
        from sbikit import Normal, TruncatedNormal

        if limits == (-math.inf, math.inf):
            return Normal(*self.normal)
        return TruncatedNormal(*self.normal, *limits)

    def reach(self) -> tuple[float, float]:
        """The mean, which has to lie within the limits."""
        return self.normal[0], self.normal[0]


Nuisance = float | UniformLaw | NormalLaw
"""A value, or the law of a free parameter."""

PerBin = Nuisance | tuple[Nuisance, ...]
"""One for all bins, each with a parameter of its own, or one a bin."""
