"""Options of `table`: what the arrays of a file are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

import pydantic

from sbikit import Options

Number = Annotated[float, pydantic.Field(allow_inf_nan=False)]
Fill = Number | tuple[Number, ...] | None
_FILL = "of data that can be missing, NaN: a typical value, one for all or one a channel or number"


class LawOptions(Options):
    """The prior of one parameter."""

    law: Literal["uniform", "normal", "truncated-normal", "log-normal"] = pydantic.Field(
        default="uniform", description="the law that the draws' parameters come from"
    )
    low: Number | None = pydantic.Field(
        default=None, description="lower bound, of uniform and truncated-normal"
    )
    high: Number | None = pydantic.Field(default=None, description="upper bound, likewise")
    mean: Number | None = pydantic.Field(default=None, description="of normal and truncated-normal")
    sd: Number | None = pydantic.Field(default=None, description="of normal and truncated-normal")
    median: Number | None = pydantic.Field(default=None, description="of log-normal")
    sigma: Number | None = pydantic.Field(default=None, description="sd of the logarithm, of log-normal")
    latex: str = pydantic.Field(default="", description="name in LaTeX without $")
    unit: str = pydantic.Field(default="", description="unit, empty for dimensionless")

    @pydantic.model_validator(mode="after")
    def _has_its_numbers(self) -> Self:
        needed = {
            "uniform": ("low", "high"),
            "normal": ("mean", "sd"),
            "truncated-normal": ("mean", "sd"),
            "log-normal": ("median", "sigma"),
        }[self.law]
        missing = [name for name in needed if getattr(self, name) is None]
        if missing:
            raise ValueError(f"a law {self.law!r} needs {' and '.join(missing)}")
        return self


class FieldOptions(Options):
    """What an array (N, *grid) or (N, C, *grid) of values on a grid is."""

    channels: int | None = pydantic.Field(
        default=None,
        ge=1,
        le=65_536,
        description="channels, the first axis of a draw; where left out there is no such axis",
    )
    grid: tuple[Annotated[int, pydantic.Field(ge=1, le=10**9)], ...] | None = pydantic.Field(
        default=None, description="pixels along each axis; read from the file where left out"
    )
    extent: tuple[Number, ...] = pydantic.Field(
        default=(), description="size along each axis, in extent_unit"
    )
    unit: str = pydantic.Field(default="", description="unit of the values")
    extent_unit: str = pydantic.Field(default="", description="unit of the extent")
    latex: str = pydantic.Field(default="", description="name in LaTeX without $")
    stationary: bool = pydantic.Field(
        default=False, description="whether its law is the same everywhere on the grid"
    )
    periodic: bool = pydantic.Field(default=False, description="whether the grid closes on itself")
    fill: Fill = pydantic.Field(default=None, description=_FILL)


class VectorOptions(Options):
    """What an array (N,) or (N, D) of numbers is."""

    labels: tuple[str, ...] | None = pydantic.Field(
        default=None, min_length=1, description="D names; made from the array's name where left out"
    )
    units: tuple[str, ...] = pydantic.Field(default=(), description="D units")
    fill: Fill = pydantic.Field(default=None, description=_FILL)


class TableOptions(Options):
    """Options of `Table`."""

    file: Path | None = pydantic.Field(
        default=None,
        description="file of named arrays, one row a draw: .npz, .zarr, .h5, .hdf5 or .nc; where left out "
        "`sbikit simulate DIR --import FILE` brings the draws, and what they are must be told in full",
    )
    parameters: str = pydantic.Field(
        default="theta", min_length=1, description="name of the array (N, D) of parameters"
    )
    prior: dict[str, LawOptions] | None = pydantic.Field(
        default=None,
        min_length=1,
        description="parameter -> its law, in the order of the columns; where left out uniform between the "
        "file's arrays `prior_low` and `prior_high` (D,), with names from its array `labels` (D,)",
    )
    observed: tuple[str, ...] = pydantic.Field(
        default=(),
        description="names of the arrays that an instrument sees; where left out the only one beside the "
        "parameters",
    )
    fields: dict[str, FieldOptions] = pydantic.Field(
        default={}, description="array -> what it is, of arrays on a grid"
    )
    vectors: dict[str, VectorOptions] = pydantic.Field(
        default={}, description="array -> what it is, of arrays of numbers"
    )
