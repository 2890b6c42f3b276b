"""Draws of a sampler on the disk, and what it says of them: one file, one place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from sbikit.problem.errors import RunFolderError
from sbikit.problem.variables import Values
from sbikit.roles.sampler import Draws
from sbikit.roles.stored_draws import Shape, StoredDraws, draw_blocks
from sbikit.roles.trust import Trust
from sbikit.storage.tensor_file import TensorFile
from sbikit.storage.tensors import open_tensors, read_header, read_tensors, write_tensors, writing_blocks

_Found = TypeVar("_Found")


def write_draws(path: Path, draws: Draws, key: str = "") -> None:
    """Write draws, all or nothing.

    Args:
        path: the file.
        draws: the draws.
        key: what they were made from; see `draws_key`.
    """
    write_tensors(path, draws.values, {"key": key, "trust": [one.record() for one in draws.trust]})


def write_stored_draws(path: Path, draws: StoredDraws, trust: Sequence[Trust], key: str = "") -> None:
    """Write the same file from draws that are read block by block."""
    header = {"key": key, "trust": [one.record() for one in trust]}
    with writing_blocks(path, draws.shapes, header) as writer:
        for rows, block in draw_blocks(draws):
            writer.put(rows.start, block)


def read_draws(path: Path) -> Draws:
    """Read what `write_draws` wrote.

    Raises:
        RunFolderError: the file is missing or damaged.
    """

    def read(path: Path) -> Draws:
        tensors, header = read_tensors(path)
        return Draws(tensors, tuple(Trust.from_record(one) for one in header["trust"]))

    return _whole(read, path)


def open_draws(path: Path) -> StoredDraws:
    """What `write_draws` wrote, to be read block by block; its checksum is computed now.

    Raises:
        RunFolderError: the file is missing or damaged.
    """
    return _whole(lambda path: _DrawsFile(open_tensors(path)[0]), path)


def read_trust(path: Path) -> tuple[Trust, ...]:
    """What the sampler said of the draws in a file, without reading them.

    Raises:
        RunFolderError: the file is missing or damaged.
    """
    return _whole(lambda path: tuple(Trust.from_record(one) for one in read_header(path)["trust"]), path)


def draws_key(path: Path) -> str | None:
    """What the draws in a file were made from; None where the file is missing or damaged."""
    try:
        return str(read_header(path)["key"])
    except (OSError, ValueError, KeyError):
        return None


@dataclass(frozen=True, eq=False)
class _DrawsFile(StoredDraws):
    """Draws in one file."""

    file: TensorFile

    @property
    def shapes(self) -> dict[str, Shape]:
        """(n, B, *shape) of every variable."""
        return {name: place.shape for name, place in self.file.places.items()}

    def block(self, names: Sequence[str], first: int, last: int) -> dict[str, Tensor]:
        """Draws for the observations `first` to `last - 1`."""
        return _whole(lambda _: self.file.columns(names, first, last), self.file.path)


@dataclass(frozen=True)
class Part:
    """A file of `write_draws` with the draws for the observations `first` to `last - 1` of many."""

    path: Path
    first: int
    last: int


class DrawsInParts(StoredDraws):
    """Draws in several files.

    Args:
        parts: the files, each beginning where the one before it ends.
        shapes: (n, B, *shape) of every variable in all of them together.
    """

    def __init__(self, parts: Sequence[Part], shapes: Mapping[str, Shape]) -> None:
        self._parts, self._shapes = tuple(parts), dict(shapes)
        self._read: tuple[Part, Draws] | None = None

    @property
    def shapes(self) -> dict[str, Shape]:
        """(n, B, *shape) of every variable."""
        return self._shapes

    def block(self, names: Sequence[str], first: int, last: int) -> dict[str, Tensor]:
        """Draws for the observations `first` to `last - 1`."""
        found: dict[str, list[Tensor]] = {name: [] for name in names}
        for part in self._parts:
            start, stop = max(first, part.first) - part.first, min(last, part.last) - part.first
            if start < stop:
                values = self._values(part)
                for name, pieces in found.items():
                    pieces.append(values[name][:, start:stop])
        return {name: torch.cat(pieces, 1) for name, pieces in found.items()}

    def _values(self, part: Part) -> Values:
        """Those of one file; the last one stays in memory, since blocks end within files."""
        if self._read is None or self._read[0] != part:
            self._read = None
            self._read = (part, read_draws(part.path))
        return self._read[1].values


def _whole(read: Callable[[Path], _Found], path: Path) -> _Found:
    try:
        return read(path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> RunFolderError:
    return RunFolderError(
        "Draws cannot be read.",
        where=str(path),
        expected="a safetensors file with the sampler's trust in its header",
        got=f"{type(error).__name__}: {error}",
        fix=f"delete the file and go on: sbikit sample {path.parent}",
    )
