"""posterior.nc: draws, data and truths of a run as one netCDF-4 file in ArviZ's groups.

    posterior              (chain, draw, *variable)     latents given the shown observation
    reference              (chain, draw, *variable)     the same from an exact sampler, if any
    observed_data          (*variable)                  the shown observation
    summaries              (channel, *grid)             maps that summarise it, if any
    truth                  (*variable)                  its latents, absent for real data
    calibration_posterior  (chain, draw, observation, *variable)
    calibration_truth      (observation, *variable)     held-out simulations
    calibration_observed   (observation, *variable)

A vector `v` has the axis `v_dim` with its labels as coordinate; a field `f` has `f_channel`, then
`f_y`, `f_x` in two dimensions and `f_axis0`, `f_axis1`, ... in any other, with the pixel centres as
coordinates. Each variable carries what is needed to read it alone: `kind`, `long_name` (LaTeX),
`unit`, and `labels` or `extent` and `extent_unit`. Supports are not stored. Where the draws are of a
user's own observation, attributes of `posterior` name the `sampler` and hold its diagnostics: `reference`
is there for draws of an exact sampler that can be trusted, and for no others.

The groups follow the InferenceData schema (https://python.arviz.org, "InferenceData schema
specification"), so `xarray.open_datatree` and ArviZ read the file as it is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from sbikit.errors import ObservationError, RunFolderError, SpecError
from sbikit.variables import Field, Spec, Values, Variable, Vector, check_values

Arrays: TypeAlias = dict[str, NDArray[np.float32]]

_DRAWS = ("chain", "draw")
_HELD_OUT = ("calibration_posterior", "calibration_truth", "calibration_observed")
_COMPRESSION = {"zlib": True, "complevel": 1, "shuffle": True, "fletcher32": True}


@dataclass(frozen=True)
class HeldOut:
    """Posterior draws of held-out simulations.

    Args:
        draws: each (n, B, *shape).
        truth: each (B, *shape).
        observed: each (B, *shape).
    """

    draws: Arrays
    truth: Arrays
    observed: Arrays


@dataclass(frozen=True)
class PosteriorFile:
    """What posterior.nc holds, all float32.

    Args:
        spec: the latents and observables, without their supports.
        summary_fields: the variables of `summaries`.
        posterior: draws of the latents, each (n, *shape).
        observed: the shown observation, each (*shape).
        summaries: each (C, *grid); empty where the simulator has none.
        truth: latents of the shown observation, each (*shape); None for real data.
        reference: draws of an exact sampler, each (m, *shape); None where there is none.
        held_out: the calibration set; None where there is none.
    """

    spec: Spec
    summary_fields: tuple[Field, ...]
    posterior: Arrays
    observed: Arrays
    summaries: Arrays
    truth: Arrays | None
    reference: Arrays | None
    held_out: HeldOut | None


# --- writing --------------------------------------------------------------------------------


def write_posterior(
    path: Path,
    *,
    spec: Spec,
    posterior: Values,
    observed: Values,
    summaries: Values | None = None,
    truth: Values | None = None,
    reference: Values | None = None,
    calibration_draws: Values | None = None,
    calibration_truth: Values | None = None,
    calibration_observed: Values | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """Write posterior.nc: all of it or nothing.

    Args:
        path: the file; one that is there is replaced.
        spec: the latents that were inferred, and the observables. Values may hold more.
        posterior: draws of the latents, each (n, *shape).
        observed: the observation, each (*shape), without a batch axis.
        summaries: summary fields of the observation, each (C, *grid).
        truth: latents of the observation, each (*shape).
        reference: draws of an exact sampler, each (m, *shape).
        calibration_draws: draws for B held-out observations, each (n, B, *shape).
        calibration_truth: their latents, each (B, *shape).
        calibration_observed: their data, each (B, *shape).
        attributes: what is to be known of the draws: numbers, text and lists of them, kept as attributes of
            the group `posterior`, true and false as 1 and 0; a null is left out.

    Raises:
        SpecError: a variable is missing, of the wrong shape or not finite.
    """
    latents, observables = spec.latents, spec.observables
    groups = {
        "posterior": _draws(posterior, latents, "posterior"),
        "observed_data": _dataset(observed, observables, (), "observed"),
    }
    groups["posterior"].attrs = _netcdf_attributes(attributes or {})
    if summaries:
        groups["summaries"] = _dataset(summaries, _summary_fields(summaries, spec), (), "summaries")
    if truth is not None:
        groups["truth"] = _dataset(truth, latents, (), "truth")
    if reference is not None:
        groups["reference"] = _draws(reference, latents, "reference")
    if calibration_draws is None and calibration_truth is None and calibration_observed is None:
        return _write(path, groups)
    if calibration_draws is None or calibration_truth is None or calibration_observed is None:
        raise SpecError(
            "A calibration set needs draws, truths and observations.",
            where="write_posterior",
            expected="calibration_draws, calibration_truth and calibration_observed, or none of them",
            fix="give all three",
        )
    batch = _leading(calibration_draws, latents, 2, "calibration_draws")
    groups["calibration_posterior"] = _dataset(
        calibration_draws, latents, ("draw", "observation"), "calibration_draws", batch
    ).expand_dims("chain")
    groups["calibration_truth"] = _dataset(
        calibration_truth, latents, ("observation",), "calibration_truth", batch[1:]
    )
    groups["calibration_observed"] = _dataset(
        calibration_observed, observables, ("observation",), "calibration_observed", batch[1:]
    )
    return _write(path, groups)


def _netcdf_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes as netCDF holds them: it has no booleans, no nulls and nothing nested."""
    made: dict[str, Any] = {}
    for name, value in attributes.items():
        if isinstance(value, bool):
            made[name] = int(value)
        elif isinstance(value, int | float | str):
            made[name] = value
        elif isinstance(value, list | tuple) and _alike(value):
            made[name] = list(value)
        elif value is not None:
            made[name] = json.dumps(value)
    return made


def _alike(values: Sequence[Any]) -> bool:
    """Whether they are all text, or all numbers."""
    return bool(values) and (
        all(isinstance(value, str) for value in values)
        or all(isinstance(value, int | float) for value in values)
    )


def _leading(values: Values, variables: Iterable[Variable], count: int, where: str) -> tuple[int, ...]:
    """The first `count` lengths of the first variable; `check_values` then holds all to it."""
    first = next(iter(variables))
    if first.name not in values:
        check_values(values, [first], (), where)
    shape = tuple(torch.as_tensor(values[first.name]).shape)
    if len(shape) != count + len(first.shape) or 0 in shape[:count]:
        raise SpecError(
            f"The variable {first.name!r} has the wrong shape.",
            where=where,
            expected=f"{count} leading axes of at least one entry, then {first.shape}",
            got=str(shape),
        )
    return shape[:count]


def _draws(values: Values, variables: tuple[Variable, ...], where: str) -> xr.Dataset:
    count = _leading(values, variables, 1, where)
    return _dataset(values, variables, ("draw",), where, count).expand_dims("chain")


def _dataset(
    values: Values,
    variables: Iterable[Variable],
    leading: tuple[str, ...],
    where: str,
    batch: tuple[int, ...] = (),
) -> xr.Dataset:
    variables = tuple(variables)
    tensors = {name: torch.as_tensor(value).detach().cpu() for name, value in values.items()}
    check_values(tensors, variables, batch, where)
    dataset = xr.Dataset()
    for variable in variables:
        array = tensors[variable.name].to(torch.float32).numpy()
        dims = (*leading, *_dims(variable))
        dataset[variable.name] = xr.DataArray(array, dims=dims, attrs=_attributes(variable))
        dataset = dataset.assign_coords(_coordinates(variable))
    return dataset


def _dims(variable: Variable) -> tuple[str, ...]:
    name = variable.name
    if isinstance(variable, Vector):
        return (f"{name}_dim",)
    axes = ("y", "x") if len(variable.grid) == 2 else [f"axis{i}" for i in range(len(variable.grid))]
    return (f"{name}_channel", *(f"{name}_{axis}" for axis in axes))


def _coordinates(variable: Variable) -> dict[str, Any]:
    dims = _dims(variable)
    if isinstance(variable, Vector):
        return {dims[0]: list(variable.labels)}
    centres = {
        dim: xr.DataArray((np.arange(n) + 0.5) * size / n, dims=dim, attrs={"unit": variable.extent_unit})
        for dim, n, size in zip(dims[1:], variable.grid, variable.extent, strict=True)
    }
    return {dims[0]: np.arange(variable.channels), **centres}


def _attributes(variable: Variable) -> dict[str, Any]:
    if isinstance(variable, Vector):
        return {
            "kind": "vector",
            "long_name": list(variable.latex),
            "unit": list(variable.units),
            "labels": list(variable.labels),
        }
    return {
        "kind": "field",
        "long_name": variable.latex,
        "unit": variable.unit,
        "extent": np.array(variable.extent),
        "extent_unit": variable.extent_unit,
    }


def _summary_fields(summaries: Values, spec: Spec) -> tuple[Field, ...]:
    return tuple(_summary_field(name, tuple(value.shape), spec) for name, value in summaries.items())


def _summary_field(name: str, shape: tuple[int, ...], spec: Spec) -> Field:
    """The variable of a summary: name and extent from the problem's field whose grid it shares."""
    if len(shape) < 2:
        raise SpecError(
            f"The summary {name!r} is not a field.",
            where="summaries",
            expected="(channels, *grid)",
            got=str(shape),
        )
    fields = [v for v in (*spec.latents, *spec.observables) if isinstance(v, Field)]
    same = next((f for f in fields if f.grid == shape[1:]), None)
    parent = next((f for f in fields if name.startswith(f"{f.name}_")), None)
    suffix = name.removeprefix(f"{parent.name}_") if parent else ""
    return Field(
        name,
        grid=shape[1:],
        channels=shape[0],
        extent=same.extent if same else (),
        extent_unit=same.extent_unit if same else "pixel",
        unit=parent.unit if parent else "",
        latex=f"{parent.latex}^{{\\mathrm{{{suffix.upper()}}}}}" if parent and suffix.isalnum() else "",
    )


def _write(path: Path, groups: Mapping[str, xr.Dataset]) -> None:
    tree = xr.DataTree.from_dict({f"/{name}": data for name, data in groups.items()})
    encoding = {
        f"/{name}": {str(key): _COMPRESSION for key, array in data.items() if array.ndim}
        for name, data in groups.items()
    }
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        tree.to_netcdf(unfinished, engine="h5netcdf", encoding=encoding)
        with unfinished.open("rb") as stream:
            os.fsync(stream.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


# --- reading --------------------------------------------------------------------------------


def read_posterior(path: Path) -> PosteriorFile:
    """Read posterior.nc into memory and check it.

    Raises:
        RunFolderError: the file is missing, damaged (every stored chunk has a checksum), lacks a
            group or a variable, or holds one of the wrong shape or with values that are not finite.
    """
    groups = _load(path)
    latents = _variables(groups, "posterior", path)
    spec = Spec(latents, _variables(groups, "observed_data", path))
    summary_fields = _variables(groups, "summaries", path) if "summaries" in groups else ()
    present = [name for name in _HELD_OUT if name in groups]
    if present and len(present) < len(_HELD_OUT):
        absent = ", ".join(name for name in _HELD_OUT if name not in groups)
        _damaged(path, "The calibration set is incomplete.", expected=absent, got=", ".join(present))
    return PosteriorFile(
        spec=spec,
        summary_fields=tuple(field for field in summary_fields if isinstance(field, Field)),
        posterior=_arrays(groups, "posterior", latents, _DRAWS, path),
        observed=_arrays(groups, "observed_data", spec.observables, (), path),
        summaries=_arrays(groups, "summaries", summary_fields, (), path),
        truth=_arrays(groups, "truth", latents, (), path) if "truth" in groups else None,
        reference=_arrays(groups, "reference", latents, _DRAWS, path) if "reference" in groups else None,
        held_out=_held_out(groups, spec, path) if present else None,
    )


def _held_out(groups: Mapping[str, xr.Dataset], spec: Spec, path: Path) -> HeldOut:
    batch = ("observation",)
    held_out = HeldOut(
        draws=_arrays(groups, "calibration_posterior", spec.latents, (*_DRAWS, *batch), path),
        truth=_arrays(groups, "calibration_truth", spec.latents, batch, path),
        observed=_arrays(groups, "calibration_observed", spec.observables, batch, path),
    )
    counts = {a.shape[1] for a in held_out.draws.values()}
    counts |= {len(a) for a in (*held_out.truth.values(), *held_out.observed.values())}
    if len(counts) > 1:
        _damaged(
            path,
            "The calibration groups differ in their number of observations.",
            expected="one number",
            got=", ".join(str(count) for count in sorted(counts)),
        )
    return held_out


def _damaged(
    path: Path,
    message: str,
    *,
    expected: str = "",
    got: str = "",
    fix: str = "delete the file and run `sbikit sample` on the folder again",
) -> NoReturn:
    raise RunFolderError(message, where=str(path), expected=expected, got=got, fix=fix)


def _load(path: Path) -> dict[str, xr.Dataset]:
    """Every group of a netCDF-4 file, in memory."""
    if not path.is_file():
        _damaged(
            path,
            "The run folder has no posterior.",
            expected=path.name,
            got="no such file",
            fix="run `sbikit sample` on the folder first",
        )
    try:
        with xr.open_datatree(path, engine="h5netcdf", decode_times=False) as tree:
            return {name: child.to_dataset(inherit=False).load() for name, child in tree.children.items()}
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        problem = f"{type(error).__name__}: {error}"
    return _damaged(path, "The posterior cannot be read.", expected="a complete netCDF-4 file", got=problem)


def _variables(groups: Mapping[str, xr.Dataset], name: str, path: Path) -> tuple[Variable, ...]:
    if name not in groups or not groups[name].data_vars:
        _damaged(
            path,
            f"The group {name!r} is missing or empty.",
            expected=name,
            got=", ".join(groups) or "no group",
        )
    return tuple(_variable(str(key), array, name, path) for key, array in groups[name].data_vars.items())


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(str(text) for text in np.atleast_1d(value))


def _variable(name: str, array: xr.DataArray, group: str, path: Path) -> Variable:
    attributes = array.attrs
    try:
        if attributes["kind"] == "vector":
            return Vector(
                name,
                labels=_texts(attributes["labels"]),
                units=_texts(attributes["unit"]),
                latex=_texts(attributes["long_name"]),
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
        )
    except (KeyError, ValueError, TypeError, SpecError) as error:
        problem = f"{type(error).__name__}: {error}"
    return _damaged(
        path,
        f"The variable {name!r} of group {group!r} lacks its description.",
        expected="attributes kind, long_name, unit, and labels or extent and extent_unit",
        got=problem,
    )


def _arrays(
    groups: Mapping[str, xr.Dataset],
    group: str,
    variables: Iterable[Variable],
    leading: tuple[str, ...],
    path: Path,
) -> Arrays:
    return {v.name: _array(groups[group], group, v, leading, path) for v in variables}


def _array(
    data: xr.Dataset, group: str, variable: Variable, leading: tuple[str, ...], path: Path
) -> NDArray[np.float32]:
    name = variable.name
    if name not in data:
        _damaged(
            path,
            f"The group {group!r} lacks a variable.",
            expected=name,
            got=", ".join(map(str, data.data_vars)),
        )
    array = np.asarray(data[name].values)
    dims = (*leading, *_dims(variable))
    shape = tuple(data.sizes.get(dim, 0) for dim in leading) + variable.shape
    if data[name].dims != dims or array.shape != shape or array.size == 0:
        _damaged(
            path,
            f"The variable {name!r} of group {group!r} has the wrong shape.",
            expected=f"{dims} = {shape}",
            got=f"{data[name].dims} = {array.shape}",
        )
    if not np.isfinite(array).all():
        _damaged(
            path,
            f"The variable {name!r} of group {group!r} has values that are not finite.",
            expected="finite numbers",
            got=f"{int((~np.isfinite(array)).sum())} NaN or infinite values",
        )
    if leading[:1] == ("chain",):
        array = array.reshape(-1, *shape[2:])
    return array.astype(np.float32, copy=False)


# --- a user's observation -------------------------------------------------------------------


def read_observation(path: Path, spec: Spec) -> dict[str, torch.Tensor]:
    """Read an observation from a netCDF file (netCDF-4, or netCDF-3 without groups) or a NumPy file.

    In a netCDF file each observable is a variable of its name, in the root, in `observed_data` or in any
    one other group, of the observable's shape; leading axes of length one are dropped. A file ending in
    `.npy` holds one array, and is for problems with one observable.

    Args:
        path: the file.
        spec: says which observables are wanted.

    Returns:
        The observables as float32 tensors, each (1, *shape): a batch of one for `Sampler.sample`.

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
        return {v.name: _checked(_load_array(path, spec), v, path) for v in spec.observables}
    groups = _load_observation(path)
    return {v.name: _checked(_observable(groups, v, path), v, path) for v in spec.observables}


def _load_array(path: Path, spec: Spec) -> NDArray[Any]:
    """The array of a NumPy file."""
    names = [variable.name for variable in spec.observables]
    if len(names) > 1:
        raise ObservationError(
            f"A NumPy file holds one array, and {len(names)} observables are wanted.",
            where=str(path),
            expected=", ".join(names),
            fix="write a netCDF file with a variable of each name",
        )
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise ObservationError(
            "The observation cannot be read.",
            where=str(path),
            expected="an array of numbers as numpy.save writes it",
            got=f"{type(error).__name__}: {error}",
        ) from error


def _load_observation(path: Path) -> dict[str, xr.Dataset]:
    """Every group of a netCDF file, in memory."""
    with path.open("rb") as stream:
        classic = stream.read(3) == b"CDF"
    try:
        if classic:
            with xr.open_dataset(path, engine="scipy", decode_times=False) as data:
                return {"/": data.load()}
        with xr.open_datatree(path, engine="h5netcdf", decode_times=False) as tree:
            return {node.path: node.to_dataset(inherit=False).load() for node in tree.subtree}
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise ObservationError(
            "The observation cannot be read.",
            where=str(path),
            expected="a complete netCDF file",
            got=f"{type(error).__name__}: {error}",
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


def _checked(array: NDArray[Any], variable: Variable, path: Path) -> torch.Tensor:
    """An observable of the right shape and finite, (1, *shape)."""
    name = variable.name
    extra = array.ndim - len(variable.shape)
    if array.shape[max(extra, 0) :] != variable.shape or any(n != 1 for n in array.shape[: max(extra, 0)]):
        raise ObservationError(
            f"The observable {name!r} has the wrong shape.",
            where=str(path),
            expected=f"{variable.shape}: {_meaning(variable)}",
            got=str(array.shape),
            fix="reorder, cut or pad the data, or set the simulator's grid to the data's",
        )
    if array.dtype.kind not in "fiu":
        _not_numbers(name, path, f"values of type {array.dtype}")
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(array.reshape(variable.shape), dtype=np.float32)
    bad = int((~np.isfinite(values)).sum())
    if bad:
        _not_numbers(name, path, f"{bad} of {values.size} values are NaN or beyond single precision")
    return torch.from_numpy(values)[None]


def _not_numbers(name: str, path: Path, got: str) -> NoReturn:
    raise ObservationError(
        f"The observable {name!r} has values that are not finite numbers.",
        where=str(path),
        expected="finite numbers",
        got=got,
        fix="fill what is missing as the simulator does for masked data",
    )


def _meaning(variable: Variable) -> str:
    if isinstance(variable, Vector):
        return ", ".join(variable.labels)
    return " x ".join(["channels", *(f"{n} pixels" for n in variable.grid)])


__all__ = [
    "Arrays",
    "HeldOut",
    "PosteriorFile",
    "read_observation",
    "read_posterior",
    "write_posterior",
]
