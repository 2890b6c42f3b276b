"""Reading posterior.nc."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import xarray as xr

from sbikit.problem.bounds import Bounds
from sbikit.problem.spec import Spec
from sbikit.problem.variables import Variable, Vector
from sbikit.roles.trust import Trust
from sbikit.storage.arrays import CalibrationDraws, read_arrays
from sbikit.storage.described import variable_of
from sbikit.storage.netcdf_guard import NetCDFRefusedError, load_groups
from sbikit.storage.posterior import DRAWS, HELD_OUT, HeldOut, PosteriorFile, damaged

_LARGE = ("/calibration_posterior",)


def read_posterior(path: Path) -> PosteriorFile:
    """Read posterior.nc into memory and check it; draws of the calibration set are read when asked for.

    Raises:
        RunFolderError: the file is missing, damaged (every stored chunk has a checksum), lacks a
            group or a variable, or holds one of the wrong shape or with values that are not finite.
    """
    groups = _load(path, unread=_LARGE)
    latents = _variables(groups, "posterior", path)
    spec = Spec(latents, _variables(groups, "observed_data", path))
    summarised = _variables(groups, "summaries", path) if "summaries" in groups else ()
    return PosteriorFile(
        spec=spec,
        summarised=summarised,
        posterior=read_arrays(groups, "posterior", latents, DRAWS, path),
        observed=read_arrays(groups, "observed_data", spec.observables, (), path),
        summaries=read_arrays(groups, "summaries", summarised, (), path),
        truth=read_arrays(groups, "truth", latents, (), path) if "truth" in groups else None,
        reference=read_arrays(groups, "reference", latents, DRAWS, path) if "reference" in groups else None,
        held_out=_held_out(groups, spec, path),
        sampler=str(groups["posterior"].attrs.get("sampler", "")),
        trust=_trust(groups["posterior"], path),
        bounds={v.name: _bounds(groups["posterior"][v.name], v, path) for v in spec.vectors},
    )


def sampler_of(path: Path) -> str:
    """Name of the sampler that drew new data's posterior; empty where the file is something else.

    Raises:
        RunFolderError: it cannot be read.
    """
    groups = _load(path)
    return str(groups["posterior"].attrs.get("sampler", "")) if "posterior" in groups else ""


def read_held_out(path: Path) -> HeldOut:
    """The calibration set alone, for which nothing else of posterior.nc is read.

    Raises:
        RunFolderError: as `read_posterior`; or there is no calibration set.
    """
    groups = _load(path, unread=(*_LARGE, "/posterior", "/reference", "/summaries"))
    spec = Spec(_variables(groups, "posterior", path), _variables(groups, "observed_data", path))
    found = _held_out(groups, spec, path)
    if found is None:
        damaged(path, "There is no calibration set.", expected=", ".join(HELD_OUT), got=", ".join(groups))
    return found


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


def _held_out(groups: Mapping[str, xr.Dataset], spec: Spec, path: Path) -> HeldOut | None:
    present = [name for name in HELD_OUT if name in groups]
    if not present:
        return None
    if len(present) < len(HELD_OUT):
        absent = ", ".join(name for name in HELD_OUT if name not in groups)
        damaged(path, "The calibration set is incomplete.", expected=absent, got=", ".join(present))
    batch = ("observation",)
    described = groups["calibration_posterior"]
    held_out = HeldOut(
        draws=CalibrationDraws(path, spec.latents, described),
        truth=read_arrays(groups, "calibration_truth", spec.latents, batch, path),
        observed=read_arrays(groups, "calibration_observed", spec.observables, batch, path),
        doubts=str(described.attrs.get("doubts", "")),
    )
    counts = {shape[1] for shape in held_out.draws.shapes.values()}
    counts |= {len(a) for a in (*held_out.truth.values(), *held_out.observed.values())}
    if len(counts) > 1:
        damaged(
            path,
            "The calibration groups differ in their number of observations.",
            expected="one number",
            got=", ".join(str(count) for count in sorted(counts)),
        )
    return held_out


def _load(path: Path, unread: Collection[str] = ()) -> dict[str, xr.Dataset]:
    """Every group of a netCDF-4 file, in memory but for those that are only described."""
    if not path.is_file():
        damaged(
            path,
            "The run folder has no posterior.",
            expected=path.name,
            got="no such file",
            fix="run `sbikit sample` on the folder first",
        )
    try:
        groups = load_groups(path, unread)
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
