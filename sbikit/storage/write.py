"""Writing posterior.nc."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import xarray as xr

from sbikit.problem.bounds import Bounds
from sbikit.problem.errors import SpecError
from sbikit.problem.spec import Spec, check_values
from sbikit.problem.variables import Values, Variable
from sbikit.roles.sampler import Draws
from sbikit.roles.stored_draws import draw_shapes
from sbikit.roles.trust import Trust
from sbikit.storage.append import CALIBRATION, Appended, described_draws
from sbikit.storage.described import attributes_of, coordinates_of, dims_of
from sbikit.storage.files import replacing

COMPRESSION = {"zlib": True, "complevel": 1, "shuffle": True, "fletcher32": True}


def write_posterior(
    path: Path,
    *,
    spec: Spec,
    posterior: Values,
    observed: Values,
    summaries: Values | None = None,
    summarised: Sequence[Variable] = (),
    truth: Values | None = None,
    reference: Values | None = None,
    calibration_draws: Values | None = None,
    calibration_truth: Values | None = None,
    calibration_observed: Values | None = None,
    calibration_doubts: str = "",
    sampler: str = "",
    trust: Trust | None = None,
    bounds: Mapping[str, Bounds] | None = None,
    advance: Callable[[int], object] | None = None,
) -> None:
    """Write posterior.nc: all of it or nothing.

    Args:
        path: the file; one that is there is replaced.
        spec: the latents that were inferred, and the observables. Values may hold more.
        posterior: draws of the latents, each (n, *shape).
        observed: the observation, each (*shape), without a batch axis.
        summaries: fields and vectors that summarise the observation, each (*shape).
        summarised: their variables.
        truth: latents of the observation, each (*shape).
        reference: draws of an exact sampler, each (m, *shape).
        calibration_draws: draws for B held-out observations, each (n, B, *shape), in memory or on the disk:
            they are read and written a block of observations at a time.
        calibration_truth: their latents, each (B, *shape).
        calibration_observed: their data, each (B, *shape).
        calibration_doubts: why the sampler doubts these draws, in words; empty where it does not.
        sampler: name of the sampler that drew `posterior`.
        trust: what it says of these draws.
        bounds: latent vector -> lowest and highest value of each of its scalars, infinite where none.
        advance: is told of how many held-out observations the draws were written.

    Raises:
        SpecError: a variable is missing, of the wrong shape or not finite.
    """
    latents, observables = spec.latents, spec.observables
    groups = {
        "posterior": _draws(posterior, latents, "posterior"),
        "observed_data": _dataset(observed, observables, (), "observed"),
    }
    groups["posterior"].attrs = {"sampler": sampler} if sampler else {}
    if trust is not None:
        groups["posterior"].attrs["trust"] = json.dumps(trust.record(), allow_nan=False)
    _add_limits(groups["posterior"], bounds or {})
    _refuse_undeclared(summaries or {}, summarised)
    if summaries:
        groups["summaries"] = _dataset(summaries, summarised, (), "summaries")
    if truth is not None:
        groups["truth"] = _dataset(truth, latents, (), "truth")
    if reference is not None:
        groups["reference"] = _draws(reference, latents, "reference")
    if calibration_draws is None and calibration_truth is None and calibration_observed is None:
        return _write(path, groups, None)
    if calibration_draws is None or calibration_truth is None or calibration_observed is None:
        raise SpecError(
            "A calibration set needs draws, truths and observations.",
            where="write_posterior",
            expected="calibration_draws, calibration_truth and calibration_observed, or none of them",
            fix="give all three",
        )
    batch = _leading(draw_shapes(calibration_draws), latents, 2, "calibration_draws")
    groups[CALIBRATION] = described_draws(latents, batch[0])
    if calibration_doubts:
        groups[CALIBRATION].attrs["doubts"] = calibration_doubts
    groups["calibration_truth"] = _dataset(
        calibration_truth, latents, ("observation",), "calibration_truth", batch[1:]
    )
    groups["calibration_observed"] = _dataset(
        calibration_observed, observables, ("observation",), "calibration_observed", batch[1:]
    )
    return _write(path, groups, Appended(latents, calibration_draws, batch, advance))


def new_draws(
    *,
    spec: Spec,
    draws: Draws,
    observed: Values,
    summaries: Values,
    summarised: Sequence[Variable],
    sampler: str,
    bounds: Mapping[str, Bounds],
    single: bool,
) -> xr.DataTree:
    """Draws for new data as a tree in ArviZ's groups.

    Args:
        spec: the latents that were inferred, and the observables.
        draws: for B observations.
        observed: their data, each (B, *shape).
        summaries: fields and vectors that summarise them, each (B, *shape).
        summarised: their variables.
        sampler: name of the sampler.
        bounds: latent vector -> lowest and highest value of each of its scalars, infinite where none.
        single: whether there is one observation, which then has no axis.

    Raises:
        SpecError: a variable is missing, of the wrong shape or not finite.
    """
    _refuse_undeclared(summaries, summarised)
    axis, count = ((), ()) if single else (("observation",), (len(draws),))

    def rows(values: Values, at: int = 0) -> Values:
        return {name: value.select(at, 0) for name, value in values.items()} if single else values

    drawn, shape = rows(draws.values, 1), (draws.count, *count)
    posterior = _dataset(drawn, spec.latents, ("draw", *axis), "posterior", shape).expand_dims("chain")
    trust = [one.record() for one in draws.trust]
    posterior.attrs["trust"] = json.dumps(trust[0] if single else trust, allow_nan=False)
    posterior.attrs |= {"sampler": sampler} if sampler else {}
    _add_limits(posterior, bounds)
    groups = {
        "posterior": posterior,
        "observed_data": _dataset(rows(observed), spec.observables, axis, "observed", count),
    }
    if summaries:
        groups["summaries"] = _dataset(rows(summaries), summarised, axis, "summaries", count)
    return xr.DataTree.from_dict({f"/{name}": data for name, data in groups.items()})


def write_new_draws(path: Path, tree: xr.DataTree) -> None:
    """Write what `new_draws` gives: all of it or nothing; a file that is there is replaced."""
    _write(path, {name: group.to_dataset() for name, group in tree.children.items()}, None)


def _add_limits(posterior: xr.Dataset, bounds: Mapping[str, Bounds]) -> None:
    for name, ends in bounds.items():
        posterior[name].attrs["limits"] = np.array(ends, dtype=np.float64).ravel()


def _refuse_undeclared(summaries: Values, summarised: Sequence[Variable]) -> None:
    declared = {variable.name for variable in summarised}
    if set(summaries) != declared:
        raise SpecError(
            "The summaries are not those that are declared.",
            where="summaries",
            expected=", ".join(sorted(declared)) or "none",
            got=", ".join(sorted(summaries)) or "none",
            fix="let Simulator.summarised hold the variables that `summaries` returns",
        )


def _leading(
    shapes: Mapping[str, tuple[int, ...]], variables: Iterable[Variable], count: int, where: str
) -> tuple[int, ...]:
    """The first `count` lengths of the first variable; `check_values` then holds all to it."""
    first = next(iter(variables))
    if first.name not in shapes:
        check_values({}, [first], (), where)
    shape = shapes[first.name]
    if len(shape) != count + len(first.shape) or 0 in shape[:count]:
        raise SpecError(
            f"The variable {first.name!r} has the wrong shape.",
            where=where,
            expected=f"{count} leading axes of at least one entry, then {first.shape}",
            got=str(shape),
        )
    return shape[:count]


def _draws(values: Values, variables: tuple[Variable, ...], where: str) -> xr.Dataset:
    shapes = {name: tuple(torch.as_tensor(value).shape) for name, value in values.items()}
    count = _leading(shapes, variables, 1, where)
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
        dims = (*leading, *dims_of(variable))
        dataset[variable.name] = xr.DataArray(array, dims=dims, attrs=attributes_of(variable))
        dataset = dataset.assign_coords(coordinates_of(variable))
    return dataset


def _write(path: Path, groups: Mapping[str, xr.Dataset], appended: Appended | None) -> None:
    tree = xr.DataTree.from_dict({f"/{name}": data for name, data in groups.items()})
    encoding = {
        f"/{name}": {str(key): {**COMPRESSION, **array.encoding} for key, array in data.items() if array.ndim}
        for name, data in groups.items()
    }
    growing = {} if appended is None else {f"/{CALIBRATION}": ["observation"]}
    with replacing(path) as partial:
        tree.to_netcdf(partial, engine="h5netcdf", encoding=encoding, unlimited_dims=growing)
        if appended is not None:
            appended.write(partial)
