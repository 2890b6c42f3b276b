"""Simulations that are kept, read: a fixed set on the disk, in the order of their stream.

Draw i is in row i, whoever made it and when. It counts only where its status says that it is there, which is
written last; its digest, of values and status, is compared when it is first read. No write is flushed to the
disk: what a power cut takes is found by its digest, and drawn again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sbikit.problem.errors import StoreError
from sbikit.problem.variables import Variable
from sbikit.roles.simulator import Simulator
from sbikit.simulations.chunks import damaged
from sbikit.simulations.failures import Reasons
from sbikit.simulations.layout import (
    DIGEST_BYTES,
    FORMAT,
    MISSING,
    SMALL_ROWS,
    array_of,
    create_group,
    draw_digests,
    open_arrays,
    rows_of_a_chunk,
)
from sbikit.storage.differing import differences
from sbikit.storage.files import PARTIAL, read_json
from sbikit.storage.seals import sealed, unsealed

Array = NDArray[Any]
_ATTRIBUTES = "sbikit"
_UNREADABLE = (OSError, ValueError, TypeError, LookupError, RuntimeError)  # what zarr raises of damaged files


class Store:
    """A store that is there; made by `open` or `create`.

    Args:
        path: its folder.
        variables: of a draw: the parameters, then each output.
        seed: of the stream that is kept.
        rows: draws in a chunk of values.
        imported: how many of its first draws were imported, and the digest of the file.
        writable: whether it is to be written to.
    """

    def __init__(
        self,
        path: Path,
        variables: Sequence[Variable],
        *,
        seed: int,
        rows: int,
        imported: tuple[int, str] = (0, ""),
        writable: bool = False,
    ) -> None:
        self.path, self.variables, self.seed, self.rows = path, tuple(variables), seed, rows
        self.imported = imported
        self.reasons = Reasons(path, rows)
        try:
            self.arrays = open_arrays(path, variables, rows, "r+" if writable else "r")
        except _UNREADABLE as error:
            raise damaged(path, f"{type(error).__name__}: {error}") from None
        self._verified = np.zeros(len(self), dtype=np.bool_)

    @classmethod
    def open(
        cls, path: Path, simulator: Simulator, identity: Mapping[str, Any], *, writable: bool = False
    ) -> Store:
        """Open a store that belongs to a simulator.

        Args:
            path: its folder.
            simulator: what is kept.
            identity: all that a draw depends on but its seed, as plain values that JSON can hold.
            writable: whether it is to be written to.

        Raises:
            StoreError: there is none, it is damaged, or it was made by something else.
        """
        found = _attributes(path)
        wrong = differences(found["identity"], dict(identity))
        if wrong:
            raise StoreError(
                "These simulations were made by something else; nothing was changed.",
                where=str(path),
                expected="simulations of this simulator, with these options",
                got="; ".join(wrong),
                fix="put the value back, or choose another --store",
            )
        del found["identity"]
        return cls(path, variables_of(simulator), **found, writable=writable)

    @classmethod
    def create(
        cls,
        path: Path,
        simulator: Simulator,
        identity: Mapping[str, Any],
        *,
        seed: int,
        seconds: float,
        imported: tuple[int, str] = (0, ""),
    ) -> None:
        """Make a store of no draws, all or nothing; one that another process has made by then is left.

        Args:
            path: its folder.
            simulator: what is to be kept.
            identity: see `open`.
            seed: of the stream that is kept.
            seconds: that a draw takes; it fixes the size of chunks.
            imported: how many draws are to be imported first, and the digest of the file.

        Raises:
            StoreError: there is something else.
        """
        rows = rows_of_a_chunk(variables_of(simulator), seconds)
        facts = {"seed": seed, "rows": rows, "imported": imported}
        content = sealed({"format": FORMAT, "identity": dict(identity), **facts})
        check_room(path)
        partial = path.with_name(f"{path.stem}.{os.getpid()}{PARTIAL}{path.suffix}")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            create_group(partial, variables_of(simulator), rows, {_ATTRIBUTES: content})
            if not exists(path):
                partial.rename(path)
        except OSError as error:
            if not exists(path):
                raise _no_room(path, error.strerror or str(error)) from None
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def __len__(self) -> int:
        """How many draws there is room for; a draw beyond is missing, as others may be."""
        return len(self.arrays["status"])

    def small(self, name: str, first: int, last: int) -> Array:
        """Rows `first` to `last - 1` of "seed", "seconds", "digest" or "status"; 0 beyond the end."""
        return self.arrays[name].read(first, last)

    def status(self, count: int) -> Array:
        """Of the first `count` draws, (count,)."""
        return self.small("status", 0, count)

    def read(self, first: int, last: int) -> dict[str, Array]:
        """Rows `first` to `last - 1` of every variable, each (last - first, *shape), compared with digests.

        Raises:
            StoreError: a draw is not as it was written.
        """
        values = self.values(first, last)
        if not self._verified[first:last].all():
            wrong = (first + self.damage(values, first, last)).tolist()
            if wrong:
                files = [str(self.arrays[array_of(v)].file(wrong[0])) for v in self.variables]
                raise damaged(", ".join(files), f"draw {wrong[0]} is not as it was written")
            self._verified[first:last] = True
        return values

    def values(self, first: int, last: int) -> dict[str, Array]:
        """The same, compared with nothing."""
        return {v.name: self.arrays[array_of(v)].read(first, last) for v in self.variables}

    def damage(self, values: Mapping[str, Array], first: int, last: int) -> NDArray[np.int64]:
        """Which of the rows, counted from `first`, are not as they were written, though they are there."""
        status = self.small("status", first, last)
        same = (draw_digests(values, status, self.variables) == self.small("digest", first, last)).all(1)
        return np.flatnonzero(~same & (status != MISSING))

    def content(self, count: int) -> str:
        """Digest of the first `count` draws: of which there are, whether they are good, and their values."""
        found = hashlib.blake2b(digest_size=DIGEST_BYTES)
        for first in range(0, count, SMALL_ROWS):
            last = min(first + SMALL_ROWS, count)
            found.update(self.small("status", first, last).tobytes())
            found.update(self.small("digest", first, last).tobytes())
        return found.hexdigest()


def variables_of(simulator: Simulator) -> tuple[Variable, ...]:
    """What a draw consists of: the parameters, then each output."""
    return (simulator.prior.variable, *simulator.drawn)


def exists(path: Path) -> bool:
    """Whether there is a store."""
    return (path / "zarr.json").is_file()


def check_room(path: Path) -> None:
    """Refuse a path where no store is and none can be made, before anything is simulated.

    Raises:
        StoreError: something else is there, or the folder cannot be written to.
    """
    if exists(path):
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        taken = os.path.lexists(path) and (not path.is_dir() or any(path.iterdir()))
    except OSError as error:
        raise _no_room(path, error.strerror or str(error)) from None
    if taken:
        raise _no_room(path, "something else is there")
    if not os.access(path.parent, os.W_OK):
        raise _no_room(path, "the folder cannot be written to")


def _no_room(path: Path, why: str) -> StoreError:
    return StoreError(
        f"Simulations cannot be kept here: {why}.",
        where=str(path),
        expected="a path where nothing is yet, in a folder that can be written to",
        fix="choose another --store",
    )


def _attributes(path: Path) -> dict[str, Any]:
    """What the store says of itself.

    Raises:
        StoreError: there is none, or it is none of ours.
    """
    if not exists(path):
        raise StoreError(
            "There are no kept simulations here.",
            where=str(path),
            fix="`sbikit simulate DIR --simulations N` makes some",
        )
    try:
        found = unsealed(read_json(path / "zarr.json")["attributes"][_ATTRIBUTES])
        seed, rows = int(found["seed"]), int(found["rows"])
        imported = int(found["imported"][0]), str(found["imported"][1])
        whole = {"identity": dict(found["identity"]), "seed": seed, "rows": rows, "imported": imported}
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise StoreError(
            f"This is no store of simulations, or its description is damaged: {error}.",
            where=str(path / "zarr.json"),
            fix="restore that file from a copy, or choose another --store",
        ) from None
    if found.get("format") != FORMAT or rows < 1:
        raise StoreError(
            "These simulations are of another version of sbikit.",
            where=str(path / "zarr.json"),
            expected=f"format {FORMAT}",
            got=str(found.get("format")),
            fix="choose another --store",
        )
    return whole
