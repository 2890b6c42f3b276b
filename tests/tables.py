"""The same table in every kind of file, and what a Gaussian toy makes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]


def gaussian(draws: int, seed: int = 0) -> dict[str, NDArray[Any]]:
    """theta ~ N(0, 1) twice, x = theta + 0.5 e, in an order: sorted by the first parameter."""
    source = np.random.default_rng(seed)
    theta = source.normal(size=(draws, 2))
    theta = theta[np.argsort(theta[:, 0])]
    return {"theta": theta, "x": theta + 0.5 * source.normal(size=(draws, 2))}


def _npz(path: Path, arrays: Arrays) -> None:
    np.savez(path, **arrays)


def _hdf5(path: Path, arrays: Arrays) -> None:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[f"deep/{name}"] = array.astype(object) if array.dtype.kind == "U" else array


def _zarr(path: Path, arrays: Arrays) -> None:
    group = zarr.create_group(path)
    for name, array in arrays.items():
        group.create_array(name, data=array)


def _netcdf(path: Path, arrays: Arrays, engine: Any = "h5netcdf") -> None:
    dims = {name: ("draw", *(f"{name}_{i}" for i in range(1, array.ndim))) for name, array in arrays.items()}
    data = xr.Dataset({name: (dims[name], array) for name, array in arrays.items()})
    data.assign_coords(draw=np.arange(len(arrays["theta"]))).to_netcdf(path, engine=engine)


WRITERS: dict[str, Callable[[Path, Arrays], None]] = {
    "a.npz": _npz,
    "a.h5": _hdf5,
    "a.hdf5": _hdf5,
    "a.zarr": _zarr,
    "a.nc": _netcdf,
    "classic.nc": lambda path, arrays: _netcdf(path, arrays, "scipy"),
}
