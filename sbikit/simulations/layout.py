"""How kept simulations lie on the disk: a zarr 3 group, every array in chunks of whole draws.

    values/<variable>   (N, *shape) float32: the parameters, and each output of the simulator
    seed                (N,) int64: the simulator's seed of each draw
    seconds             (N,) float32: how long it took
    digest              (N, 16) uint8: of its values, see `draw_digest`
    status              (N,) uint8: whether it is there, and whether it is good

Values are not compressed: noise does not shrink. A chunk of values holds some megabytes and some seconds of
work, so that an interruption costs no more; the arrays beside them are small, and so are in larger chunks.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import xxhash
from numpy.typing import NDArray

from sbikit.problem.variables import Variable, count_numbers
from sbikit.simulations.chunks import Chunks

FORMAT = 1
STREAM = "training"
"""The stream whose draws are kept."""
MISSING, GOOD, NOT_FINITE, RAISED, TIMEOUT = range(5)
KINDS = {NOT_FINITE: "not finite", RAISED: "raised", TIMEOUT: "timeout"}
"""Status of a failed draw -> kind of its failure."""
DIGEST_BYTES = 16
SMALL_ROWS = 4096
"""Rows of a chunk of the arrays beside the values."""

_MOST_ROWS, _MOST_BYTES, _MOST_SECONDS = 256, 4 * 2**20, 10.0  # of a chunk of values
_SMALL: dict[str, tuple[str, tuple[int, ...]]] = {
    "seed": ("int64", ()),
    "seconds": ("float32", ()),
    "digest": ("uint8", (DIGEST_BYTES,)),
    "status": ("uint8", ()),
}


def rows_of_a_chunk(variables: Sequence[Variable], seconds: float) -> int:
    """Draws in a chunk of values.

    Args:
        variables: of a draw.
        seconds: that a draw takes.
    """
    size = 4 * count_numbers(variables)
    return max(1, int(min(_MOST_ROWS, _MOST_BYTES / size, _MOST_SECONDS / max(seconds, 1e-9))))


def array_of(variable: Variable) -> str:
    """Path of a variable's array in the group: its name, where that can be the name of a folder."""
    return f"values/{quote(variable.name, safe=' ').replace('.', '%2E')}"


def create_group(path: Path, variables: Sequence[Variable], rows: int, attributes: Mapping[str, Any]) -> None:
    """Make a group of no draws.

    Args:
        path: its folder, which is not there yet.
        variables: of a draw.
        rows: draws in a chunk of values.
        attributes: of the group.
    """
    import zarr

    group = zarr.create_group(path, attributes=dict(attributes))
    for name, (dtype, shape, chunk) in _arrays(variables, rows).items():
        axes = ("draw", *(f"axis{i}" for i in range(len(shape))))
        group.create_array(
            name,
            shape=(0, *shape),
            chunks=(chunk, *shape),
            dtype=dtype,
            compressors=None,
            fill_value=0,
            dimension_names=axes,
            chunk_key_encoding={"name": "default", "separator": "."},
        )


def open_arrays(path: Path, variables: Sequence[Variable], rows: int, mode: str) -> dict[str, Chunks]:
    """The arrays of a group by name, as `create_group` has made them.

    Raises:
        ValueError: one is missing, or is another.
    """
    import zarr

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is odd about a group is refused below, once
        group = zarr.open_group(path, mode=mode)  # type: ignore[arg-type]
        found = {}
        for name, (dtype, shape, chunk) in _arrays(variables, rows).items():
            array = group[name]
            if not isinstance(array, zarr.Array):
                raise ValueError(f"{name} is no array")
            seen = (str(array.dtype), array.shape[1:], array.chunks, array.compressors, array.filters)
            wanted = (dtype, shape, (chunk, *shape), (), ())
            if seen != wanted or array.shards is not None or array.metadata.encode_chunk_key((0,)) != "c.0":
                raise ValueError(f"the array {name} is another: {', '.join(map(str, seen))}")
            found[name] = Chunks(path / name, array, chunk, in_place=name in _SMALL)
    return found


def _arrays(variables: Sequence[Variable], rows: int) -> dict[str, tuple[str, tuple[int, ...], int]]:
    """Name of every array -> type, shape of a draw, draws in a chunk; the status, which counts, last."""
    values = {array_of(variable): ("float32", variable.shape, rows) for variable in variables}
    return {**values, **{name: (dtype, shape, SMALL_ROWS) for name, (dtype, shape) in _SMALL.items()}}


def draw_digests(
    values: Mapping[str, NDArray[np.float32]], status: NDArray[np.uint8], variables: Sequence[Variable]
) -> NDArray[np.uint8]:
    """Digest of each of n draws, (n, 16): XXH3 of 128 bits, of its outputs, its parameters and its status.

    It finds what was changed by accident, 30 times as fast as a cryptographic hash.

    Args:
        values: name -> (n, *shape), float32.
        status: (n,).
        variables: the parameters, then each output.
    """
    parameters, *outputs = [np.ascontiguousarray(values[v.name], dtype="<f4") for v in variables]
    found = np.empty((len(status), DIGEST_BYTES), dtype=np.uint8)
    for row, code in enumerate(status.tolist()):
        digest = xxhash.xxh3_128()
        for array in (*outputs, parameters):
            digest.update(array[row].data)
        digest.update(bytes([code]))
        found[row] = np.frombuffer(digest.digest(), dtype=np.uint8)
    return found
