"""Adding draws to a store: by one process at a time, so that what is there stays as it is at any moment.

A chunk is written as a file beside its own, which takes its place at once; a chunk that is filled further
keeps the rows that it has. Values come first, then what is said of them, the status last.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np

from sbikit.problem.errors import StoreError
from sbikit.problem.seeds import draw_seeds
from sbikit.roles.simulator import Simulator
from sbikit.simulations.attempts import Attempts
from sbikit.simulations.layout import GOOD, KINDS, MISSING, SMALL_ROWS, STREAM, array_of, draw_digests
from sbikit.simulations.store import Store
from sbikit.storage.files import PARTIAL

_LOCK = "status/.lock"  # below an array, where zarr lists nothing
_CODES = {kind: code for code, kind in KINDS.items()}


class Writer:
    """The one process that may add to a store; made by `writing`.

    Args:
        store: a store that is open for writing.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def grow(self, count: int) -> None:
        """Make room for `count` draws; there may be room for more already."""
        for array in self.store.arrays.values():  # the status last: its length is that of the store
            array.grow(count)

    def put(self, attempts: Attempts) -> None:
        """Write draws, for which there is room."""
        store, first, n = self.store, attempts.first, len(attempts.seconds)
        tensors = {**attempts.parameters, **attempts.outputs}
        values = {v.name: tensors[v.name].numpy() for v in store.variables}
        status = np.full(n, GOOD, dtype=np.uint8)
        for row, failure in attempts.failures.items():
            status[row] = _CODES[failure.kind]
        for variable in store.variables:
            store.arrays[array_of(variable)].write(first, values[variable.name])
        store.reasons.add({first + row: failure.words for row, failure in attempts.failures.items()})
        store.arrays["seed"].write(first, attempts.seeds)
        store.arrays["seconds"].write(first, attempts.seconds)
        store.arrays["digest"].write(first, draw_digests(values, status, store.variables))
        store.arrays["status"].write(first, status)

    def forget(self, rows: Sequence[int]) -> None:
        """Let draws count as missing."""
        for row in rows:
            self.store.arrays["status"].write(row, np.array([MISSING]))

    def mend(self, count: int) -> Iterator[tuple[int, int]]:
        """Compare the first `count` draws with their digests; those that differ count as missing afterwards.

        Yields:
            How many draws were looked at since the last time, and how many of them are damaged.
        """
        store = self.store
        end = min(count, len(store))
        for name in ("seed", "seconds", "digest", "status"):
            for first in range(0, end, SMALL_ROWS):
                store.arrays[name].remove_unreadable(first)
        for first in range(0, end, store.rows):
            last = min(first + store.rows, end)
            for variable in store.variables:
                store.arrays[array_of(variable)].remove_unreadable(first)
            wrong = store.damage(store.values(first, last), first, last)
            self.forget((first + wrong).tolist())
            self._put_seeds(first, last)
            yield last - first, len(wrong)

    def _put_seeds(self, first: int, last: int) -> None:
        """Write seeds anew where they differ: no digest holds them, since they follow from the stream."""
        store = self.store
        there = store.small("status", first, last) != MISSING
        seeds = np.where(there, draw_seeds(store.seed, f"{STREAM}/simulator", first, last - first), 0)
        if not np.array_equal(store.small("seed", first, last), seeds):
            store.arrays["seed"].write(first, seeds)


@contextmanager
def writing(path: Path, simulator: Simulator, identity: Mapping[str, Any]) -> Iterator[Writer]:
    """A store that nobody else adds to meanwhile.

    Raises:
        StoreError: another process does, or as `Store.open`.
    """
    Store.open(path, simulator, identity)
    with _locked(path):
        _remove_leftovers(path)
        yield Writer(Store.open(path, simulator, identity, writable=True))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(path / _LOCK, flags, 0o666)
    except OSError as error:
        raise StoreError(
            f"The kept simulations cannot be written: {error.strerror}.",
            where=str(path),
            fix="check who may write there, or choose another --store",
        ) from None
    with os.fdopen(descriptor, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StoreError(
                "Another sbikit process is adding to these simulations.",
                where=str(path),
                fix="wait for it, or choose another --store",
            ) from None
        yield


def _remove_leftovers(path: Path) -> None:
    """Remove what a killed writer left: chunks that it was writing, a store that it was making."""
    for file in path.rglob(f"*{PARTIAL}*"):
        file.unlink(missing_ok=True)
    for folder in path.parent.glob(f"{escape(path.stem)}.*{PARTIAL}{escape(path.suffix)}"):
        shutil.rmtree(folder, ignore_errors=True)
