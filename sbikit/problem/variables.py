"""What travels between plug-ins: named tensors, and the variables that give them meaning.

A batch of truths or observations has shape `(B, *variable.shape)`, draws from a posterior
have shape `(n, B, *variable.shape)`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor
from torch.distributions import constraints

from sbikit.problem.errors import SpecError

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
        fill: of data that can be missing, NaN, what stands in their place: a typical value, one for each
            scalar or one for all. None: they are never missing. See `sbikit.seen_of`.
        tells: of a variable made by `sbikit.seen_of`, the name of the one it tells of, "" for none.

    Raises:
        SpecError: labels, units or fill do not fit together.
    """

    name: str
    labels: tuple[str, ...]
    units: tuple[str, ...] = ()
    latex: tuple[str, ...] = ()
    support: constraints.Constraint = constraints.real
    fill: float | tuple[float, ...] | None = None
    tells: str = ""

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
        _check_fill(self.fill, self.fills, len(self.labels), f"Vector({self.name!r})")
        object.__setattr__(self, "units", self.units or ("",) * len(self.labels))
        object.__setattr__(self, "latex", self.latex or self.labels)

    @property
    def shape(self) -> tuple[int, ...]:
        """`(D,)`."""
        return (len(self.labels),)

    @property
    def fills(self) -> tuple[float, ...]:
        """`fill` for each scalar; none where they are never missing."""
        return _fills(self.fill, len(self.labels))


_CELLS = {1: "point", 3: "voxel"}  # what the cells of a grid are called; in two dimensions pixels


@dataclass(frozen=True)
class Field:
    """A field sampled on a regular grid.

    Args:
        name: the variable's name.
        grid: pixels along each axis.
        channels: components, for example 2 for shear.
        extent: size along each axis, in `extent_unit`; the grid itself where left out.
        unit: unit of the values, empty for dimensionless.
        extent_unit: unit of the extent; where left out, what the cells of the grid are called.
        latex: name in LaTeX without `$`; the name where left out.
        support: the set each value lies in.
        estimates: of a summary of the data, the name of the latent field that it estimates, "" for none.
        stationary: whether the field's law is the same everywhere on the grid: given all latent vectors, and
            shifted together with the other stationary fields of its grid, it is as likely as before. Only
            then may estimators and figures forget where things are. A map of the sky without a mask is; a
            time series with a beginning, or an image with something in the middle, is not.
        periodic: whether the grid closes on itself, so that the last pixel along each axis is the neighbour
            of the first.
        fill: of data that can be missing, NaN, what stands in their place: a typical value, one for each
            channel or one for all. None: they are never missing. See `sbikit.seen_of`.
        tells: of a variable made by `sbikit.seen_of`, the name of the one it tells of, "" for none.

    Raises:
        SpecError: grid, channels, extent or fill do not fit together.
    """

    name: str
    grid: tuple[int, ...]
    channels: int = 1
    extent: tuple[float, ...] = ()
    unit: str = ""
    extent_unit: str = ""
    latex: str = ""
    support: constraints.Constraint = constraints.real
    estimates: str = ""
    stationary: bool = False
    periodic: bool = False
    fill: float | tuple[float, ...] | None = None
    tells: str = ""

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
        _check_fill(self.fill, self.fills, self.channels, f"Field({self.name!r})")
        object.__setattr__(self, "extent", self.extent or tuple(float(n) for n in self.grid))
        object.__setattr__(self, "latex", self.latex or self.name)
        object.__setattr__(self, "extent_unit", self.extent_unit or _CELLS.get(len(self.grid), "pixel"))

    @property
    def shape(self) -> tuple[int, ...]:
        """`(C, *grid)`."""
        return (self.channels, *self.grid)

    @property
    def fills(self) -> tuple[float, ...]:
        """`fill` for each channel; none where they are never missing."""
        return _fills(self.fill, self.channels)


def _fills(fill: float | tuple[float, ...] | None, count: int) -> tuple[float, ...]:
    if fill is None:
        return ()
    return (float(fill),) * count if isinstance(fill, int | float) else tuple(map(float, fill))


def _check_fill(
    given: float | tuple[float, ...] | None, fills: tuple[float, ...], count: int, where: str
) -> None:
    if given is not None and (len(fills) != count or not all(map(math.isfinite, fills))):
        raise SpecError(
            "What stands for missing values does not fit the variable.",
            where=f"{where}.fill",
            expected=f"a finite number, or {count} of them",
            got=repr(given),
        )


Variable: TypeAlias = Vector | Field


def count_numbers(variables: Iterable[Variable]) -> int:
    """How many numbers a draw of these variables is."""
    return sum(math.prod(variable.shape) for variable in variables)
