"""Reading posterior.nc."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sbikit.problem.bounds import Bounds
from sbikit.problem.spec import Spec
from sbikit.problem.variables import Field, Variable, Vector
from sbikit.roles.trust import Trust
from sbikit.storage.described import dims_of, variable_of
from sbikit.storage.netcdf_guard import NetCDFRefusedError, load_groups
from sbikit.storage.posterior import DRAWS, HELD_OUT, Arrays, HeldOut, PosteriorFile, damaged


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
    present = [name for name in HELD_OUT if name in groups]
    if present and len(present) < len(HELD_OUT):
        absent = ", ".join(name for name in HELD_OUT if name not in groups)
        damaged(path, "The calibration set is incomplete.", expected=absent, got=", ".join(present))
    return PosteriorFile(
        spec=spec,
        summary_fields=tuple(field for field in summary_fields if isinstance(field, Field)),
        posterior=_arrays(groups, "posterior", latents, DRAWS, path),
        observed=_arrays(groups, "observed_data", spec.observables, (), path),
        summaries=_arrays(groups, "summaries", summary_fields, (), path),
        truth=_arrays(groups, "truth", latents, (), path) if "truth" in groups else None,
        reference=_arrays(groups, "reference", latents, DRAWS, path) if "reference" in groups else None,
        held_out=_held_out(groups, spec, path) if present else None,
        sampler=str(groups["posterior"].attrs.get("sampler", "")),
        trust=_trust(groups["posterior"], path),
        bounds={v.name: _bounds(groups["posterior"][v.name], v, path) for v in spec.vectors},
    )


def _bounds(array: xr.DataArray, vector: Vector, path: Path) -> Bounds:
    """Lowest and highest values; infinite where nothing is said."""
    given = array.attrs.get("limits")
    if given is None:
        return ((-math.inf, math.inf),) * len(vector.labels)
    try:
        ends = np.asarray(given, dtype=np.float64).reshape(len(vector.labels), 2)
    except (TypeError, ValueError) as error:
        problem = str(error)
    else:
        return tuple((float(low), float(high)) for low, high in ends)
    return damaged(path, f"The limits of {vector.name!r} cannot be read.", got=problem)


def _trust(posterior: xr.Dataset, path: Path) -> Trust | None:
    """What the sampler said of the draws; None where it said nothing."""
    text = posterior.attrs.get("trust")
    if text is None:
        return None
    try:
        return Trust.from_record(json.loads(text))
    except (ValueError, TypeError, RecursionError) as error:
        problem = str(error)
    return damaged(path, "What the sampler says of its draws cannot be read.", got=problem)


def _held_out(groups: Mapping[str, xr.Dataset], spec: Spec, path: Path) -> HeldOut:
    batch = ("observation",)
    held_out = HeldOut(
        draws=_arrays(groups, "calibration_posterior", spec.latents, (*DRAWS, *batch), path),
        truth=_arrays(groups, "calibration_truth", spec.latents, batch, path),
        observed=_arrays(groups, "calibration_observed", spec.observables, batch, path),
        doubts=str(groups["calibration_posterior"].attrs.get("doubts", "")),
    )
    counts = {a.shape[1] for a in held_out.draws.values()}
    counts |= {len(a) for a in (*held_out.truth.values(), *held_out.observed.values())}
    if len(counts) > 1:
        damaged(
            path,
            "The calibration groups differ in their number of observations.",
            expected="one number",
            got=", ".join(str(count) for count in sorted(counts)),
        )
    return held_out


def _load(path: Path) -> dict[str, xr.Dataset]:
    """Every group of a netCDF-4 file, in memory."""
    if not path.is_file():
        damaged(
            path,
            "The run folder has no posterior.",
            expected=path.name,
            got="no such file",
            fix="run `sbikit sample` on the folder first",
        )
    try:
        groups = load_groups(path)
        return {
            name.strip("/"): data for name, data in groups.items() if name.count("/") == 1 and name != "/"
        }
    except (OSError, NetCDFRefusedError) as error:
        problem = str(error)
    return damaged(path, "The posterior cannot be read.", expected="a complete netCDF-4 file", got=problem)


def _variables(groups: Mapping[str, xr.Dataset], name: str, path: Path) -> tuple[Variable, ...]:
    if name not in groups or not groups[name].data_vars:
        damaged(
            path,
            f"The group {name!r} is missing or empty.",
            expected=name,
            got=", ".join(groups) or "no group",
        )
    return tuple(variable_of(str(key), array, name, path) for key, array in groups[name].data_vars.items())


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
        damaged(
            path,
            f"The group {group!r} lacks a variable.",
            expected=name,
            got=", ".join(map(str, data.data_vars)),
        )
    array = np.asarray(data[name].values)
    dims = (*leading, *dims_of(variable))
    shape = tuple(data.sizes.get(dim, 0) for dim in leading) + variable.shape
    if data[name].dims != dims or array.shape != shape or array.size == 0:
        damaged(
            path,
            f"The variable {name!r} of group {group!r} has the wrong shape.",
            expected=f"{dims} = {shape}",
            got=f"{data[name].dims} = {array.shape}",
        )
    if array.dtype.kind not in "fiu":
        damaged(
            path,
            f"The variable {name!r} of group {group!r} holds no numbers.",
            expected="numbers",
            got=str(array.dtype),
        )
    if not np.isfinite(array).all():
        damaged(
            path,
            f"The variable {name!r} of group {group!r} has values that are not finite.",
            expected="finite numbers",
            got=f"{int((~np.isfinite(array)).sum())} NaN or infinite values",
        )
    if leading[:1] == ("chain",):
        array = array.reshape(-1, *shape[2:])
    return array.astype(np.float32, copy=False)
