"""netCDF files of others, looked through before a library follows what they say.

An HDF5 file can point to other files (external and soft links, external storage, virtual datasets), hold a
group inside itself, announce arrays far larger than what it stores, and be packed so that a little becomes
a great deal. None of that is ever in a file of sbikit, and a reader that follows it reads what it was not
given, or does not end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import h5py

if TYPE_CHECKING:
    import xarray as xr

_MOST_GROUPS = 1000
# zlib packs at most 1,032 bytes into one; a header and small arrays come on top.
_PACKED, _SPARE = 1100, 2**24


_Read = TypeVar("_Read")


class NetCDFRefusedError(ValueError):
    """A file that is no netCDF, is damaged, or must not be read; the message says why."""


def load_groups(path: Path, unread: Collection[str] = ()) -> dict[str, xr.Dataset]:
    """Every group of a netCDF file, netCDF-4 or netCDF-3, in memory: "/", "/posterior", ...

    Args:
        path: the file.
        unread: groups that are only described: values of their variables cannot be asked for.

    Raises:
        NetCDFRefusedError: it cannot be read, or refers to other files, holds itself or announces more
            than it can store.
        OSError: it cannot be opened.
    """
    with path.open("rb") as stream:
        classic = stream.read(3) == b"CDF"
    return _guarded(_load_classic if classic else partial(_load, unread=unread), path)


def load_part(path: Path, group: str, names: Collection[str], rows: Mapping[str, slice]) -> xr.Dataset:
    """Some variables of one group of a netCDF-4 file in memory, of some dimensions a part; errors are those
    of `load_groups`.
    """
    return _guarded(partial(_load_part, group=group, names=names, rows=rows), path)


def _guarded(read: Callable[[Path], _Read], path: Path) -> _Read:
    try:
        return read(path)
    except NetCDFRefusedError:
        raise
    # Whatever a damaged file makes of three libraries: each raises by a dozen classes.
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        raise NetCDFRefusedError(f"{type(error).__name__}: {reason}") from error


def _load_classic(path: Path) -> dict[str, xr.Dataset]:
    import xarray as xr

    with xr.open_dataset(path, engine="scipy", decode_times=False) as data:
        _refuse_giant(path, sum(variable.nbytes for variable in data.variables.values()), packed=1)
        return {"/": data.load()}


def _load(path: Path, unread: Collection[str] = ()) -> dict[str, xr.Dataset]:
    import xarray as xr

    _look_at(path)
    with xr.open_datatree(path, engine="h5netcdf", decode_times=False, phony_dims="sort") as tree:
        groups = {node.path: node.to_dataset(inherit=False) for node in tree.subtree}
        return {name: data if name in unread else data.load() for name, data in groups.items()}


def _load_part(path: Path, group: str, names: Collection[str], rows: Mapping[str, slice]) -> xr.Dataset:
    import xarray as xr

    _look_at(path)
    with xr.open_dataset(path, engine="h5netcdf", group=group, decode_times=False, cache=False) as data:
        return data[list(names)].isel(rows).load()


def _look_at(path: Path) -> None:
    with h5py.File(path, "r") as file:
        _refuse_giant(path, look_through(file), packed=_PACKED)


def look_through(file: h5py.File) -> int:
    """Bytes that all datasets of a file take in memory, or their chunks where these are larger.

    Raises:
        NetCDFRefusedError: it refers to other files, or holds itself.
    """
    total, seen, open_ = 0, {_place(file)}, [file["/"]]
    while open_:
        group = open_.pop()
        for name in group:
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                target = getattr(link, "filename", getattr(link, "path", "?"))
                raise NetCDFRefusedError(f"{group.name}: {name!r} is a link to {target!r}")
            found = group[name]
            if isinstance(found, h5py.Dataset):
                total += _bytes(found)
            elif isinstance(found, h5py.Group):
                if _place(found) in seen or len(seen) > _MOST_GROUPS:
                    raise NetCDFRefusedError(f"{found.name}: a group is in the file twice, or in itself")
                seen.add(_place(found))
                open_.append(found)
    return total


def _place(found: h5py.Group) -> int:
    return int(h5py.h5o.get_info(found.id).addr)


def _bytes(found: h5py.Dataset) -> int:
    if found.external or found.is_virtual:
        raise NetCDFRefusedError(f"{found.name}: its values lie in other files")
    settings = found.id.get_create_plist()
    filters = [settings.get_filter(i)[0] for i in range(settings.get_nfilters())]
    if len(set(filters)) < len(filters):  # packed twice, 1 kB may hold 1 GB
        raise NetCDFRefusedError(f"{found.name}: its values are packed more than once")
    return max(math.prod(found.shape or ()), math.prod(found.chunks or ())) * found.dtype.itemsize


def _refuse_giant(path: Path, announced: int, *, packed: int) -> None:
    stored = path.stat().st_size
    if announced > packed * stored + _SPARE:
        raise NetCDFRefusedError(f"it announces {announced:.3g} bytes of values and has {stored} bytes")
