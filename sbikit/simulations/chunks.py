"""An array of a store by its files: a chunk is a file of plain numbers, as zarr lays it out.

Who reads and writes whole rows needs no more than that, and waits for no event loop. zarr itself makes the
arrays and their descriptions, and reads them as any other.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sbikit.problem.errors import StoreError
from sbikit.storage.files import PARTIAL

Array = NDArray[Any]


class Chunks:
    """Rows (N, *shape) in chunks of whole rows, 0 where nothing was written yet.

    Args:
        folder: of the array.
        array: its description, a zarr.Array.
        rows: of a chunk.
        in_place: whether rows are written into a chunk that is there. A kill in the midst of it leaves each
            row as it was or as it is to be, so this is for rows that mean something each by itself.
    """

    def __init__(self, folder: Path, array: Any, rows: int, *, in_place: bool = False) -> None:
        self._folder, self._array, self._rows, self._in_place = folder, array, rows, in_place
        self.dtype = np.dtype(array.dtype).newbyteorder("<")
        self.shape = tuple(int(n) for n in array.shape[1:])
        self._size = self.dtype.itemsize * math.prod(self.shape)  # bytes of a row

    def __len__(self) -> int:
        return int(self._array.shape[0])

    def grow(self, count: int) -> None:
        """Make room for `count` rows; there may be room for more already."""
        if len(self) < count:
            self._array.resize((count, *self.shape))

    def file(self, row: int) -> Path:
        """The file that a row lies in."""
        return self._folder / ".".join(["c", str(row // self._rows), *("0" for _ in self.shape)])

    def read(self, first: int, last: int) -> Array:
        """Rows `first` to `last - 1`.

        Raises:
            StoreError: a file is cut short, or cannot be read.
        """
        found = np.zeros((max(last - first, 0), *self.shape), dtype=self.dtype)
        for start, end in self._parts(first, last):
            rows = self._load(start, end)
            if rows is not None:
                found[start - first : end - first] = rows
        return found

    def write(self, first: int, values: Array) -> None:
        """Write rows `first`, `first + 1`, ..., for which there is room; a new chunk whole or not at all."""
        for start, end in self._parts(first, first + len(values)):
            given = np.ascontiguousarray(values[start - first : end - first], dtype=self.dtype)
            base = start - start % self._rows
            if self._in_place and self._written_over(start, given):
                continue
            if end - start < self._rows:
                whole = self._load(base, base + self._rows)
                whole = np.zeros((self._rows, *self.shape), dtype=self.dtype) if whole is None else whole
                whole[start - base : end - base] = given
                given = whole
            path = self.file(start)
            partial = path.with_name(f"{path.name}.{os.getpid()}{PARTIAL}")
            with partial.open("wb") as file:
                file.write(given.data)
            os.replace(partial, path)

    def _written_over(self, first: int, given: Array) -> bool:
        """Write rows into their chunk; whether that was there, and whole."""
        try:
            with self.file(first).open("r+b") as file:
                if os.fstat(file.fileno()).st_size != self._rows * self._size:
                    return False
                file.seek(first % self._rows * self._size)
                file.write(given.data)
        except FileNotFoundError:
            return False
        return True

    def remove_unreadable(self, row: int) -> None:
        """Remove the file of a row if it cannot be read: its rows are 0 then."""
        try:
            self._load(row, row + 1)
        except StoreError:
            self.file(row).unlink()

    def _parts(self, first: int, last: int) -> list[tuple[int, int]]:
        """The rows as ranges, one a chunk."""
        bounds = range(first - first % self._rows, last, self._rows)
        return [(max(first, low), min(last, low + self._rows)) for low in bounds]

    def _load(self, first: int, last: int) -> Array | None:
        """Rows of one chunk; None where it was never written."""
        path = self.file(first)
        try:
            if path.stat().st_size != self._rows * self._size:
                raise damaged(path, "a file is cut short, or too long")
            offset = first % self._rows * self._size
            count = (last - first) * math.prod(self.shape)
            return np.fromfile(path, self.dtype, count, offset=offset).reshape(last - first, *self.shape)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise damaged(path, str(error)) from None


def damaged(where: Path | str, reason: str) -> StoreError:
    """The refusal of a store that is not as it was written."""
    return StoreError(
        f"Kept simulations are damaged: {reason}.",
        where=str(where),
        expected="every draw as its digest says",
        fix="`sbikit simulate DIR`, of a run that keeps its simulations there, draws again what is damaged",
    )
