"""Rows that are made part after part and kept in files, so that an interruption loses the last few alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from sbikit.learning.checkpoint import read_checkpoint, write_checkpoint
from sbikit.learning.parts import Parts
from sbikit.problem.variables import Values

_FORMAT = "rows 1"
_ROWS, _FIRST = "rows", "first"
_KEEP_SECONDS = 20.0  # the most that an interruption can lose, beside a part


class KeptRows:
    """Rows by name, made in order.

    Args:
        folder: where files of them lie, there already; None: they are not kept.
        name: of the files, none of whose names may start with that of others.
        identity: all that rows depend on, see `fingerprint`.
        writes: whether this process writes the files, of several that make the same rows.
    """

    def __init__(self, folder: Path | None, name: str, identity: str, *, writes: bool = True) -> None:
        self._folder, self._name, self._identity = folder, name, identity
        self._writes = writes and folder is not None

    def joined(self, make: Callable[[int], Iterator[Values]]) -> dict[str, Tensor]:
        """All rows, those in files and the others, which are kept as they come.

        Args:
            make: how many rows are there -> those that follow, in parts with tensors (m, *shape). The first
                parts may have names that later ones lack, never the other way round.

        Raises:
            CheckpointError: a file is damaged, or holds rows of something else.
        """
        return Parts(lambda: self._go(make)).joined()

    def _go(self, make: Callable[[int], Iterator[Values]]) -> Iterator[Values]:
        count = 0
        for part in self._read():
            count += _rows(part)
            yield part
        waiting: list[Values] = []
        since = time.monotonic()
        for part in make(count):
            waiting.append(part)
            if time.monotonic() - since >= _KEEP_SECONDS:
                count += self._write(count, waiting)
                waiting, since = [], time.monotonic()
            yield part
        self._write(count, waiting)

    def _read(self) -> Iterator[Values]:
        """What is in files, up to the first gap."""
        if self._folder is None:
            return
        count = 0
        for path in sorted(self._folder.glob(f"{self._name}-*.safetensors")):
            kept = read_checkpoint(path, _FORMAT)
            kept.check_identity(self._identity)
            if kept.header[_FIRST] != count:
                return
            rows = dict(kept.parts[_ROWS])
            count += _rows(rows)
            yield rows

    def _write(self, first: int, waiting: list[Values]) -> int:
        """Keep rows from `first` on; returns how many there are."""
        count = sum(map(_rows, waiting))
        if self._writes and count:
            assert self._folder is not None
            names = list(dict.fromkeys(name for part in waiting for name in part))
            rows = {name: torch.cat([part[name] for part in waiting if name in part]) for name in names}
            path = self._folder / f"{self._name}-{first:012d}.safetensors"
            write_checkpoint(path, _FORMAT, {_ROWS: rows}, {"identity": self._identity, _FIRST: first})
        return count


def _rows(part: Values) -> int:
    """The most of any name."""
    return max(len(value) for value in part.values())
