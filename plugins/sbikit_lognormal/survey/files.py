"""Maps from files, checked."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sbikit import OptionError

Array = NDArray[np.float64]


def read_map(path: Path | str, where: str, size: int, highest: float = math.inf) -> Array:
    """A map (N, N) of finite values from 0 to `highest`, not all 0, from a file.

    Raises:
        OptionError: it cannot be read, or does not hold such a map.
    """
    found = _read_array(path, where)
    if found.shape != (size, size) or found.dtype.kind not in "biuf":
        got = f"shape {found.shape}, type {found.dtype}"
    elif not np.isfinite(found).all():
        got = f"{int((~np.isfinite(found)).sum())} values that are not finite"
    elif found.min() < 0 or found.max() > highest:
        got = f"values from {found.min():.6g} to {found.max():.6g}"
    elif not found.any():
        got = "0 everywhere"
    else:
        return found.astype(np.float64)
    limit = "0 or more" if highest == math.inf else f"from 0 to {highest:g}"
    raise OptionError(
        f"The map in {path} does not fit the patch.",
        where=where,
        expected=f"shape ({size}, {size}) of finite numbers {limit}, not all 0",
        got=got,
        fix="make the map on the simulator's pixels, or set the simulator's size to that of the map",
    )


def _read_array(path: Path | str, where: str) -> NDArray[np.generic]:
    """The array of an .npy file, or the one array of an .npz file; nothing is unpickled."""
    got = f"a file named {Path(path).name}"
    if Path(path).suffix in {".npy", ".npz"}:
        try:
            with open(path, "rb") as stream:
                found = np.load(stream, allow_pickle=False)
                if isinstance(found, np.ndarray):
                    return found
                if len(found.files) == 1:
                    return np.asarray(found[found.files[0]])
                got = f"arrays {', '.join(found.files) or 'none'}"
        # A damaged archive makes zipfile, zlib and numpy raise by a dozen classes.
        except Exception as error:
            got = f"{type(error).__name__}: {error}"
    raise OptionError(
        f"No map can be read from {path}.",
        where=where,
        expected="an .npy file, or an .npz file of one array, of numbers",
        got=got,
        fix="write the map with numpy.save or numpy.savez and give the path of that file",
    )
