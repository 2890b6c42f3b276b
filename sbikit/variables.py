"""What travels between plug-ins: named tensors, and the variables that give them meaning.

A batch of truths or observations has shape `(B, *variable.shape)`, draws from a posterior
have shape `(n, B, *variable.shape)`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor
from torch.distributions import constraints

from sbikit.errors import ObservationError, SpecError

Values: TypeAlias = Mapping[str, Tensor]
"""Name of a variable -> tensor of shape `(*batch, *variable.shape)`."""


@dataclass(frozen=True)
class Vector:
    """A vector of D named scalars.

    Args:
        name: the variable's name.
        labels: D plain names, one a scalar.
        units: D units, empty for dimensionless.
        latex: D names in LaTeX without `$`; the labels where left out.
        support: the set each scalar lies in.
    """

    name: str
    labels: tuple[str, ...]
    units: tuple[str, ...] = ()
    latex: tuple[str, ...] = ()
    support: constraints.Constraint = constraints.real

    def __post_init__(self) -> None:
        if not self.labels or len(set(self.labels)) != len(self.labels):
            raise SpecError(
                f"The labels of {self.name!r} must be at least one, all different.",
                where=f"Vector({self.name!r})",
                got=repr(self.labels),
                fix="give each scalar a name of its own",
            )
        for field in ("units", "latex"):
            given = getattr(self, field)
            if given and len(given) != len(self.labels):
                raise SpecError(
                    f"Vector {self.name!r} has {len(self.labels)} labels but {len(given)} {field}.",
                    where=f"Vector({self.name!r}).{field}",
                    expected=f"{len(self.labels)} entries, or none",
                    got=repr(given),
                )
        object.__setattr__(self, "units", self.units or ("",) * len(self.labels))
        object.__setattr__(self, "latex", self.latex or self.labels)

    @property
    def shape(self) -> tuple[int, ...]:
        """`(D,)`."""
        return (len(self.labels),)


@dataclass(frozen=True)
class Field:
    """A field sampled on a regular grid.

    Args:
        name: the variable's name.
        grid: pixels along each axis.
        channels: components, for example 2 for shear.
        extent: size along each axis, in `extent_unit`; the grid itself where left out.
        unit: unit of the values, empty for dimensionless.
        extent_unit: unit of the extent.
        latex: name in LaTeX without `$`; the name where left out.
        support: the set each value lies in.
    """

    name: str
    grid: tuple[int, ...]
    channels: int = 1
    extent: tuple[float, ...] = ()
    unit: str = ""
    extent_unit: str = "pixel"
    latex: str = ""
    support: constraints.Constraint = constraints.real

    def __post_init__(self) -> None:
        if not self.grid or min(self.grid) < 1 or self.channels < 1:
            raise SpecError(
                f"Field {self.name!r} needs at least one pixel along each axis and one channel.",
                where=f"Field({self.name!r})",
                got=f"grid={self.grid}, channels={self.channels}",
            )
        if self.extent and len(self.extent) != len(self.grid):
            raise SpecError(
                f"The extent of field {self.name!r} must have one size an axis.",
                where=f"Field({self.name!r}).extent",
                expected=f"{len(self.grid)} numbers",
                got=repr(self.extent),
            )
        object.__setattr__(self, "extent", self.extent or tuple(float(n) for n in self.grid))
        object.__setattr__(self, "latex", self.latex or self.name)

    @property
    def shape(self) -> tuple[int, ...]:
        """`(C, *grid)`."""
        return (self.channels, *self.grid)


Variable: TypeAlias = Vector | Field


@dataclass(frozen=True)
class Spec:
    """The inference problem: draw `latents` given `observables`."""

    latents: tuple[Variable, ...]
    observables: tuple[Variable, ...]

    def __post_init__(self) -> None:
        names = [variable.name for variable in (*self.latents, *self.observables)]
        if len(set(names)) != len(names):
            raise SpecError("Two variables share a name.", got=", ".join(names))
        if not self.latents:
            raise SpecError("There is nothing to infer: no latent variable.")

    def __getitem__(self, name: str) -> Variable:
        for variable in (*self.latents, *self.observables):
            if variable.name == name:
                return variable
        raise SpecError(
            f"There is no variable {name!r}.",
            expected=", ".join(v.name for v in (*self.latents, *self.observables)),
            got=name,
        )

    @property
    def vectors(self) -> tuple[Vector, ...]:
        """The latent vectors."""
        return tuple(v for v in self.latents if isinstance(v, Vector))

    @property
    def fields(self) -> tuple[Field, ...]:
        """The latent fields."""
        return tuple(v for v in self.latents if isinstance(v, Field))

    def select(self, *names: str) -> Spec:
        """The marginal problem that infers only the latents of these names.

        Raises:
            SpecError: a name is not a latent of this problem.
        """
        known = {variable.name for variable in self.latents}
        for name in names:
            if name not in known:
                raise SpecError(
                    f"{name!r} is not a latent variable.", expected=", ".join(sorted(known)), got=name
                )
        return replace(self, latents=tuple(v for v in self.latents if v.name in names))


def check_values(values: Values, variables: Iterable[Variable], batch: tuple[int, ...], where: str) -> None:
    """Refuse values that lack a variable, have a wrong shape, or are not finite.

    Args:
        values: what to check.
        variables: the variables that must be there.
        batch: the leading shape expected of each.
        where: who made the values, for the message.

    Raises:
        SpecError: with the variable at fault.
    """
    for variable in variables:
        if variable.name not in values:
            raise SpecError(
                f"The variable {variable.name!r} is missing.",
                where=where,
                expected=variable.name,
                got=", ".join(values) or "nothing",
            )
        tensor = values[variable.name]
        expected = (*batch, *variable.shape)
        if tuple(tensor.shape) != expected:
            raise SpecError(
                f"The variable {variable.name!r} has the wrong shape.",
                where=where,
                expected=str(expected),
                got=str(tuple(tensor.shape)),
            )
        if not bool(torch.isfinite(tensor).all()):
            raise SpecError(
                f"The variable {variable.name!r} has values that are not finite.",
                where=where,
                expected="finite numbers",
                got=f"{int((~torch.isfinite(tensor)).sum())} NaN or infinite values",
            )


def check_observation(observation: Values, spec: Spec) -> int:
    """The number B of observations, each `(B, *shape)` for the observables of `spec`.

    Raises:
        ObservationError: a variable is missing, misshapen or not finite.
    """
    counts = set()
    for variable in spec.observables:
        found = observation.get(variable.name)
        if found is None or found.ndim == 0 or tuple(found.shape[1:]) != variable.shape:
            raise ObservationError(
                f"The observed variable {variable.name!r} is missing or has the wrong shape.",
                where=variable.name,
                expected=f"(observations, {', '.join(map(str, variable.shape))})",
                got="nothing" if found is None else str(tuple(found.shape)),
            )
        if not bool(torch.isfinite(found).all()):
            raise ObservationError(
                f"The observed variable {variable.name!r} has values that are not finite.",
                where=variable.name,
                expected="finite numbers",
            )
        counts.add(len(found))
    if len(counts) != 1:
        raise ObservationError(
            "The observed variables have different numbers of observations.", got=str(sorted(counts))
        )
    return counts.pop()
