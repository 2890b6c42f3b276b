"""A user's own observation, from a netCDF or NumPy file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from sbikit.problem.errors import ObservationError
from sbikit.problem.gaps import filled
from sbikit.problem.spec import Spec
from sbikit.problem.variables import Values, Variable, Vector
from sbikit.storage.netcdf_guard import NetCDFRefusedError, load_groups


def read_observation(path: Path, spec: Spec, masks: Values | None = None) -> dict[str, torch.Tensor]:
    """Read an observation from a netCDF file (netCDF-4, or netCDF-3 without groups) or a NumPy file.

    In a netCDF file each observable is a variable of its name, in the root, in `observed_data` or in any
    one other group, of the observable's shape; with one more axis in front it is that of many observations,
    and further leading axes of length one are dropped. A file ending in `.npy` holds one array, and is for
    problems with one observable.

    Args:
        path: the file.
        spec: says which observables are wanted.
        masks: of some observables, where they are observed; see `sbikit.SupportsMasks`. What the file holds
            elsewhere, NaN too, is taken for 0.

    Returns:
        The observables as float32 tensors, each (B, *shape), B of 1 for one observation. Of those that can be
        missing NaN is missing, and so is what NAME_seen, where the file has it, says is not seen.

    Raises:
        ObservationError: the file cannot be read, or an observable is missing, found in several
            groups, of the wrong shape or not finite.
    """
    if not path.is_file():
        raise ObservationError(
            "There is no such observation.",
            where=str(path),
            expected="a netCDF or .npy file",
            got="a folder" if path.is_dir() else "no such file",
        )
    if path.suffix == ".npy":
        arrays = {v: _load_array(path, spec) for v in spec.measured}
    else:
        groups = _load_observation(path)
        there = {str(name) for data in groups.values() for name in data.data_vars}
        arrays = {v: _observable(groups, v, path) for v in spec.observables if not v.tells or v.name in there}
    return checked_observation(arrays, masks or {}, str(path))


def checked_observation(
    arrays: Mapping[Variable, NDArray[Any]], masks: Values, where: str
) -> dict[str, torch.Tensor]:
    """Observed arrays as a sampler takes them.

    Args:
        arrays: of each observable, (*shape) or, of B observations, (B, *shape), with any further leading axes
            of length one; the axis of a single channel, or of a vector of one number, may be left out.
            Those that only tell which numbers of another are seen may be left out.
        masks: of some observables, where they are observed; what the arrays hold elsewhere is taken for 0.
        where: where they are from, for messages.

    Returns:
        Float32 tensors (B, *shape).

    Raises:
        ObservationError: one is of the wrong shape or not finite, or they are not of as many observations.
    """
    found = {v.name: _checked(array, v, where, masks.get(v.name)) for v, array in arrays.items()}
    for variable in arrays:
        if variable.tells in found:
            seen = found.pop(variable.name).expand_as(found[variable.tells]) > 0.0
            found[variable.tells] = found[variable.tells].masked_fill(~seen, torch.nan)
    found = filled(found, [v for v in arrays if not v.tells])
    counts = {name: len(value) for name, value in found.items()}
    if len(set(counts.values())) > 1:
        raise ObservationError(
            "The observables are not of the same observations.",
            where=where,
            expected="as many of each",
            got=", ".join(f"{name}: {count}" for name, count in counts.items()),
        )
    return found


def shapes_of(variable: Variable) -> tuple[tuple[int, ...], ...]:
    """The shapes that an array of one observation may have: with the axis of a single channel, or of a vector
    of one number, or without.
    """
    shape = variable.shape
    return (shape, shape[1:]) if shape[0] == 1 else (shape,)


def _load_array(path: Path, spec: Spec) -> NDArray[Any]:
    """The array of a NumPy file."""
    names = [variable.name for variable in spec.measured]
    if len(names) > 1:
        raise ObservationError(
            f"A NumPy file holds one array, and {len(names)} observables are wanted.",
            where=str(path),
            expected=", ".join(names),
            fix="write a netCDF file with a variable of each name",
        )
    try:
        # Mapped, so that a header cannot announce more than the file holds.
        return np.array(np.load(path, mmap_mode="r", allow_pickle=False))
    # A damaged header makes numpy raise by many classes.
    except Exception as error:
        raise ObservationError(
            "The observation cannot be read.",
            where=str(path),
            expected="an array of numbers as numpy.save writes it",
            got=f"{type(error).__name__}: {error}",
        ) from error


def _load_observation(path: Path) -> dict[str, xr.Dataset]:
    """Every group of a netCDF file, in memory."""
    try:
        return load_groups(path)
    except (OSError, NetCDFRefusedError) as error:
        raise ObservationError(
            "The observation cannot be read.",
            where=str(path),
            expected="a complete netCDF file that refers to no other file",
            got=str(error),
            fix="write it with xarray.Dataset.to_netcdf(path, engine='h5netcdf')",
        ) from error


def _observable(groups: Mapping[str, xr.Dataset], variable: Variable, path: Path) -> NDArray[Any]:
    """The one array of this name."""
    name = variable.name
    homes = [group for group, data in groups.items() if name in data.data_vars]
    home = next((group for group in ("/", "/observed_data") if group in homes), None)
    if home is None and len(homes) != 1:
        stored = sorted({str(key) for data in groups.values() for key in data.data_vars})
        raise ObservationError(
            f"The observable {name!r} is in {len(homes)} groups of the file."
            if homes
            else f"The observable {name!r} is missing.",
            where=str(path),
            expected=f"one variable {name!r} of shape {variable.shape}",
            got=", ".join(homes or stored) or "an empty file",
            fix="put it into the file's root under that name",
        )
    return np.asarray(groups[home or homes[0]][name].values)


def _checked(array: NDArray[Any], variable: Variable, where: str, mask: torch.Tensor | None) -> torch.Tensor:
    """An observable of the right shape and finite, 0 where it is masked, (B, *shape)."""
    name = variable.name
    if not any(_is_of(array.shape, shape) for shape in shapes_of(variable)):
        raise ObservationError(
            f"The observable {name!r} has the wrong shape.",
            where=where,
            expected=f"{variable.shape}: {_meaning(variable)}; or one more axis in front, of observations",
            got=str(array.shape),
            fix="reorder, cut or pad the data, or set the simulator's grid to the data's",
        )
    if array.dtype.kind not in "fiu":
        raise _not_numbers(name, where, f"values of type {array.dtype}")
    with np.errstate(over="ignore"):
        values = np.array(array, dtype=np.float32).reshape(-1, *variable.shape)
    if mask is not None:
        values[:, ~mask.numpy()] = 0.0
    bad = int((~np.isfinite(values) if variable.fill is None else np.isinf(values)).sum())
    if bad:
        what = "NaN" if variable.fill is None else "infinite"
        raise _not_numbers(
            name, where, f"{bad} of {values.size} values are {what} or beyond single precision"
        )
    return torch.from_numpy(values)


def _is_of(given: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether an array is of one observation of this shape, or of several."""
    extra = len(given) - len(shape)
    if extra < 0 or given[extra:] != shape:
        return False
    many = [n for n in given[:extra] if n != 1]
    return len(many) <= 1 and 0 not in many


def _not_numbers(name: str, where: str, got: str) -> ObservationError:
    return ObservationError(
        f"The observable {name!r} has values that are not finite numbers.",
        where=where,
        expected="finite numbers",
        got=got,
        fix="fill what is missing as the simulator does for masked data; where data can be missing, let the "
        "simulator say so, so that what is trained has seen such data: always in the same places "
        "(sbikit.SupportsMasks), or here and there (`fill` of the variable)",
    )


def _meaning(variable: Variable) -> str:
    if isinstance(variable, Vector):
        return ", ".join(variable.labels)
    return " x ".join(["channels", *(f"{n} pixels" for n in variable.grid)])
