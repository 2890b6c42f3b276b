"""Redshift distributions as they stand in a file, checked."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sbikit import OptionError

Array = NDArray[np.float64]


def read_distributions(path: Path) -> tuple[Array, Array]:
    """z (n_z,) and n_z (bins, n_z) as they stand in the file.

    Raises:
        OptionError: the file cannot be read, or does not hold distributions.
    """
    try:
        z, n_z = (_real(array) for array in _columns(path))
    # A damaged archive makes zipfile, zlib and numpy raise by a dozen classes.
    except Exception as error:
        raise OptionError(
            "The redshift distributions cannot be read.",
            where=str(path),
            expected=".npz with arrays `z` and `n_z`, or text of numbers with z in the first column",
            got=f"{type(error).__name__}: {error}",
            fix="check the path and the file's format",
        ) from error
    z, n_z = np.atleast_1d(z), np.atleast_2d(n_z)
    _check(path, z, n_z)
    return z, n_z


def _columns(path: Path) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    """z and n_z of whatever type they are."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            return file["z"], file["n_z"]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*no data")
        columns = np.loadtxt(path, ndmin=2).T
    return columns[0], columns[1:]


def _real(array: NDArray[np.generic]) -> Array:
    """The array in double precision.

    Raises:
        ValueError: it does not hold real numbers.
    """
    if array.dtype.kind not in "biuf":
        raise ValueError(f"an array of {array.dtype}, which are no real numbers")
    return np.asarray(array, dtype=np.float64)


def _check(path: Path, z: Array, n_z: Array) -> None:
    """Refuse what are not distributions over redshift."""
    for fault in _faults(z, n_z):
        if fault.found:
            raise OptionError(
                "The file does not hold redshift distributions.",
                where=str(path),
                expected=fault.expected,
                got=fault.got,
                fix=fault.fix,
            )


class _Fault(NamedTuple):
    """Something that may be wrong, whether it is, and what to say then."""

    found: bool
    expected: str
    got: str
    fix: str


def _faults(z: Array, n_z: Array) -> Iterator[_Fault]:
    """All that may be wrong; each holds sense only where those before it are not found."""
    shapes = z.ndim == 1 and n_z.ndim == 2 and len(z) >= 1 and n_z.shape[-1:] == z.shape and len(n_z) > 0
    yield _Fault(
        not shapes,
        "z (n_z,) and n_z (bins, n_z)",
        f"z {z.shape} and n_z {n_z.shape}",
        "give one value of every bin at each redshift",
    )
    yield _Fault(
        not (np.isfinite(z).all() and np.isfinite(n_z).all()),
        "finite numbers",
        "NaN or infinity",
        "take out the values that are not finite",
    )
    falling = np.flatnonzero(~(np.diff(z) > 0))
    row = int(falling[0]) + 1 if len(falling) else 0
    yield _Fault(
        bool(len(falling)),
        "redshifts ascending, none twice",
        f"{z[row]:g} after {z[row - 1]:g} in row {row + 1}",
        "sort the rows by redshift and leave one row of each",
    )
    yield _Fault(
        bool((n_z < 0).any()),
        "no negative numbers of galaxies",
        f"{n_z.min():g}",
        "set negative values to zero",
    )
