"""Variables as netCDF describes them: dimensions, coordinates and attributes, there and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from sbikit.problem.errors import SpecError
from sbikit.problem.variables import Field, Variable, Vector
from sbikit.storage.posterior import damaged


def dims_of(variable: Variable) -> tuple[str, ...]:
    name = variable.name
    if isinstance(variable, Vector):
        return (f"{name}_dim",)
    axes = ("y", "x") if len(variable.grid) == 2 else [f"axis{i}" for i in range(len(variable.grid))]
    return (f"{name}_channel", *(f"{name}_{axis}" for axis in axes))


def coordinates_of(variable: Variable) -> dict[str, Any]:
    dims = dims_of(variable)
    if isinstance(variable, Vector):
        return {dims[0]: list(variable.labels)}
    centres = {
        dim: xr.DataArray((np.arange(n) + 0.5) * size / n, dims=dim, attrs={"unit": variable.extent_unit})
        for dim, n, size in zip(dims[1:], variable.grid, variable.extent, strict=True)
    }
    return {dims[0]: np.arange(variable.channels), **centres}


def attributes_of(variable: Variable) -> dict[str, Any]:
    gaps: dict[str, Any] = {} if variable.fill is None else {"fill": np.array(variable.fills)}
    gaps |= {"tells": variable.tells} if variable.tells else {}
    if isinstance(variable, Vector):
        return {
            "kind": "vector",
            "long_name": list(variable.latex),
            "unit": list(variable.units),
            "labels": list(variable.labels),
            **gaps,
        }
    return {
        "kind": "field",
        "long_name": variable.latex,
        "unit": variable.unit,
        "extent": np.array(variable.extent),
        "extent_unit": variable.extent_unit,
        "estimates": variable.estimates,
        "stationary": int(variable.stationary),
        "periodic": int(variable.periodic),
        **gaps,
    }


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(str(text) for text in np.atleast_1d(value))


def variable_of(name: str, array: xr.DataArray, group: str, path: Path) -> Variable:
    attributes = array.attrs
    try:
        fill = attributes.get("fill")
        gaps: dict[str, Any] = {
            "fill": None if fill is None else tuple(float(one) for one in np.atleast_1d(fill)),
            "tells": str(attributes.get("tells", "")),
        }
        if attributes["kind"] == "vector":
            return Vector(
                name,
                labels=_texts(attributes["labels"]),
                units=_texts(attributes["unit"]),
                latex=_texts(attributes["long_name"]),
                **gaps,
            )
        dims = [dim for dim in array.dims if str(dim).startswith(f"{name}_")]
        channels, *grid = (array.sizes[dim] for dim in dims)
        return Field(
            name,
            grid=tuple(grid),
            channels=channels,
            extent=tuple(float(size) for size in np.atleast_1d(attributes["extent"])),
            unit=str(attributes["unit"]),
            extent_unit=str(attributes["extent_unit"]),
            latex=str(attributes["long_name"]),
            estimates=str(attributes.get("estimates", "")),
            stationary=bool(attributes.get("stationary", False)),
            periodic=bool(attributes.get("periodic", False)),
            **gaps,
        )
    except (LookupError, ValueError, TypeError, AttributeError, ArithmeticError, SpecError) as error:
        problem = f"{type(error).__name__}: {error}"
    return damaged(
        path,
        f"The variable {name!r} of group {group!r} lacks its description.",
        expected="attributes kind, long_name, unit, and labels or extent and extent_unit",
        got=problem,
    )
