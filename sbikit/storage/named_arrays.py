"""Files of named arrays that others wrote: .npz, .zarr, HDF5 and netCDF. Nothing in them is unpickled.

An array's name is the last part of its path in the file, which must be the only one of that name. Coordinates
of netCDF files are no arrays of their own.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np
from numpy.typing import NDArray

from sbikit.problem.errors import ObservationError
from sbikit.storage.netcdf_guard import load_groups, look_through

Array: TypeAlias = NDArray[Any]
SUFFIXES = (".npz", ".zarr", ".h5", ".hdf5", ".nc")


class NamedArray:
    """One array of a file that is open."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @abstractmethod
    def __getitem__(self, rows: slice | NDArray[np.int64]) -> Array:
        """A range of rows, or rows in ascending order, along the first axis."""


class NamedArrays(Mapping[str, NamedArray]):
    """Name -> array of a file that is open; made by `open_arrays`.

    Args:
        path: the file.
        arrays: of any kind that has a shape, a dtype and rows.
    """

    def __init__(self, path: Path, arrays: Mapping[str, Any]) -> None:
        self.path, self._arrays = path, dict(arrays)

    def __getitem__(self, name: str) -> NamedArray:
        found: NamedArray = self._arrays[name]
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)


@contextmanager
def open_arrays(path: Path) -> Iterator[NamedArrays]:
    """Open a file of named arrays; those of .npz files and classic netCDF are read into memory one by one.

    Raises:
        ObservationError: it is missing, damaged, of another kind, refers to other files, or has a name twice.
    """
    kind = path.suffix.lower()
    if kind not in SUFFIXES:
        raise _refused(path, f"a file named {path.name}")
    with ExitStack() as stack:
        try:
            arrays = {".npz": _npz, ".zarr": _zarr}.get(kind, _hdf5)(path, stack)
        # A damaged file makes zipfile, numpy, zarr and HDF5 raise by a dozen classes.
        except Exception as error:
            raise _refused(path, f"{type(error).__name__}: {error}") from None
        yield NamedArrays(path, _by_last_name(arrays, path))


class _Member:
    """An array of an .npz file, read when it is first asked for."""

    def __init__(self, archive: Any, name: str) -> None:
        self._archive, self._name = archive, name
        self._array: Array | None = None
        with archive.zip.open(f"{name}.npy") as member:
            version = np.lib.format.read_magic(member)
            header = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }
            self.shape, _, self.dtype = header[version](member)

    def __getitem__(self, rows: Any) -> Array:
        if self._array is None:
            self._array = np.asarray(self._archive[self._name])
        return self._array[rows]


def _npz(path: Path, stack: ExitStack) -> dict[str, Any]:
    stream = stack.enter_context(path.open("rb"))
    archive = stack.enter_context(np.load(stream, allow_pickle=False))
    return {name: _Member(archive, name) for name in archive.files}


def _zarr(path: Path, stack: ExitStack) -> dict[str, Any]:
    import zarr

    del stack
    group = zarr.open_group(path, mode="r")
    return {
        name: _Zarr(array) for name, array in group.members(max_depth=None) if isinstance(array, zarr.Array)
    }


class _Zarr:
    """A zarr array, whose rows are taken as numpy takes them."""

    def __init__(self, array: Any) -> None:
        self._array, self.shape, self.dtype = array, array.shape, array.dtype

    def __getitem__(self, rows: Any) -> Array:
        found = self._array[rows] if isinstance(rows, slice) else self._array.oindex[rows]
        return np.asarray(found)


def _hdf5(path: Path, stack: ExitStack) -> dict[str, Any]:
    with path.open("rb") as stream:
        if stream.read(3) == b"CDF":
            return {
                f"{group}/{name}": data.values
                for group, dataset in load_groups(path).items()
                for name, data in dataset.data_vars.items()
            }
    file = stack.enter_context(h5py.File(path, "r"))
    look_through(file)
    found: dict[str, Any] = {}

    def keep(name: str, one: object) -> None:
        if isinstance(one, h5py.Dataset) and not one.is_scale:
            found[name] = one.asstr() if h5py.check_string_dtype(one.dtype) else one

    file.visititems(keep)
    return found


def _by_last_name(arrays: Mapping[str, Any], path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for place, array in arrays.items():
        name = place.rstrip("/").rpartition("/")[2]
        if name in found:
            raise _refused(path, f"two arrays named {name!r}")
        found[name] = array
    return found


def _refused(path: Path, got: str) -> ObservationError:
    return ObservationError(
        f"No named arrays can be read from {path}.",
        where=str(path),
        expected="a file of named arrays, " + ", ".join(SUFFIXES),
        got=got,
        fix="write them with numpy.savez, h5py, xarray or zarr, one row a draw, each name once",
    )
