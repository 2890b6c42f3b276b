"""The arrays of posterior.nc, checked: whole groups, and draws of the calibration set block by block."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from sbikit.problem.variables import Variable
from sbikit.roles.stored_draws import Shape, StoredDraws
from sbikit.storage.described import dims_of
from sbikit.storage.netcdf_guard import NetCDFRefusedError, load_part
from sbikit.storage.posterior import DRAWS, Arrays, damaged

_GROUP = "calibration_posterior"
_LEADING = (*DRAWS, "observation")


class CalibrationDraws(StoredDraws):
    """The draws of the calibration set of a posterior.nc.

    Args:
        path: the file.
        variables: the latents.
        described: their group, of which no values are read.

    Raises:
        RunFolderError: a variable is missing or has the wrong shape or type.
    """

    def __init__(self, path: Path, variables: Iterable[Variable], described: xr.Dataset) -> None:
        self._path, self._variables = path, {v.name: v for v in variables}
        self._shapes = {}
        for name, variable in self._variables.items():
            chains, draws, *rest = _checked(described, _GROUP, variable, _LEADING, path)
            self._shapes[name] = (chains * draws, *rest)

    @property
    def shapes(self) -> dict[str, Shape]:
        """(n, B, *shape) of every variable."""
        return self._shapes

    def block(self, names: Sequence[str], first: int, last: int) -> dict[str, Tensor]:
        """Draws for the observations `first` to `last - 1`, each (n, last - first, *shape).

        Raises:
            RunFolderError: the file is missing, damaged or another, or values are not finite.
        """
        variables = [self._variables[name] for name in names]
        try:
            data = load_part(self._path, _GROUP, names, {"observation": slice(first, last)})
        except (OSError, NetCDFRefusedError) as error:
            problem = str(error)
        else:
            found = read_arrays({_GROUP: data}, _GROUP, variables, _LEADING, self._path)
            return {name: torch.from_numpy(array) for name, array in found.items()}
        where = f"observations {first} to {last - 1} of the calibration set"
        return damaged(
            self._path,
            "The posterior cannot be read.",
            expected="a complete netCDF-4 file",
            got=f"{where}: {problem}",
        )


def read_arrays(
    groups: Mapping[str, xr.Dataset],
    group: str,
    variables: Iterable[Variable],
    leading: tuple[str, ...],
    path: Path,
) -> Arrays:
    """Variables of one group, whose dimensions are those of `leading` and their own.

    Raises:
        RunFolderError: one is missing, of the wrong shape or type, or not finite.
    """
    return {v.name: _array(groups[group], group, v, leading, path) for v in variables}


def _array(
    data: xr.Dataset, group: str, variable: Variable, leading: tuple[str, ...], path: Path
) -> NDArray[np.float32]:
    shape = _checked(data, group, variable, leading, path)
    array = np.asarray(data[variable.name].values)
    if not np.isfinite(array).all():
        damaged(
            path,
            f"The variable {variable.name!r} of group {group!r} has values that are not finite.",
            expected="finite numbers",
            got=f"{int((~np.isfinite(array)).sum())} NaN or infinite values",
        )
    if leading[:1] == ("chain",):
        array = array.reshape(-1, *shape[2:])
    return array.astype(np.float32, copy=False)


def _checked(
    data: xr.Dataset, group: str, variable: Variable, leading: tuple[str, ...], path: Path
) -> tuple[int, ...]:
    """The shape of a variable, after checks of all but its values."""
    name = variable.name
    if name not in data:
        damaged(
            path,
            f"The group {group!r} lacks a variable.",
            expected=name,
            got=", ".join(map(str, data.data_vars)),
        )
    array = data[name]
    dims = (*leading, *dims_of(variable))
    shape = tuple(data.sizes.get(dim, 0) for dim in leading) + variable.shape
    if array.dims != dims or array.shape != shape or array.size == 0:
        damaged(
            path,
            f"The variable {name!r} of group {group!r} has the wrong shape.",
            expected=f"{dims} = {shape}",
            got=f"{array.dims} = {array.shape}",
        )
    if array.dtype.kind not in "fiu":
        damaged(
            path,
            f"The variable {name!r} of group {group!r} holds no numbers.",
            expected="numbers",
            got=str(array.dtype),
        )
    return shape
