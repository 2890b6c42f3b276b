"""Draws that are too many for memory: they lie on the disk and are read a block of observations at a time.

Blocks are an affair of memory alone. Nothing that is computed from draws may depend on where one ends, and
what a block is given in belongs to who asked for it: it is read anew each time.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from sbikit.problem.memory import give_back
from sbikit.problem.variables import Values

BLOCK_BYTES = 2**24
"""Of the draws of a block: smaller ones are read more often, larger ones take more memory."""

Shape = tuple[int, ...]


class StoredDraws(Mapping[str, Tensor], ABC):
    """Draws on the disk, each (n, B, *shape), float32.

    They are a mapping as draws in memory are: `draws[name]` reads all draws of a variable, anew each time, so
    it is for variables that fit into memory. `draw_blocks` goes through all of them a block at a time.
    """

    @property
    @abstractmethod
    def shapes(self) -> Mapping[str, Shape]:
        """(n, B, *shape) of every variable, without reading it."""

    @abstractmethod
    def block(self, names: Sequence[str], first: int, last: int) -> dict[str, Tensor]:
        """Draws for the observations `first` to `last - 1`, each (n, last - first, *shape).

        Raises:
            RunFolderError: they cannot be read.
        """

    def __getitem__(self, name: str) -> Tensor:
        parts = [self.block([name], *ends)[name] for ends in _ends(self, [name])]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    def __contains__(self, name: object) -> bool:
        return name in self.shapes


class SomeDraws(StoredDraws):
    """A part of stored draws.

    Args:
        whole: the draws.
        rows: which observations, ascending; all where left out.
        most: at most so many draws of each, the first ones; all where left out.
        kept: variable -> which entries along the first axis of its shape; all of those that are not named.
            A variable of which nothing is kept is left out.
    """

    def __init__(
        self,
        whole: StoredDraws,
        *,
        rows: Sequence[int] | None = None,
        most: int | None = None,
        kept: Mapping[str, list[int]] | None = None,
    ) -> None:
        self._whole, self._rows, self._most = whole, rows, most
        self._kept = {
            name: entries
            for name, entries in (kept or {}).items()
            if name in whole.shapes and len(entries) != whole.shapes[name][2]
        }

    @property
    def shapes(self) -> dict[str, Shape]:
        """(n, B, *shape) of every variable."""
        found = {}
        for name, (n, B, *shape) in self._whole.shapes.items():
            shape[:1] = [len(self._kept.get(name, range(shape[0])))]
            count = n if self._most is None else min(n, self._most)
            found[name] = (count, B if self._rows is None else len(self._rows), *shape)
        return {name: shape for name, shape in found.items() if shape[2]}

    def block(self, names: Sequence[str], first: int, last: int) -> dict[str, Tensor]:
        """Draws for the observations `first` to `last - 1` of this part."""
        runs = [(first, last)] if self._rows is None else _runs(self._rows[first:last])
        parts = [self._cut(self._whole.block(names, *ends)) for ends in runs]
        if len(parts) == 1:
            return parts[0]
        return {name: torch.cat([part[name] for part in parts], 1) for name in names}

    def _cut(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        some = {name: value[: self._most] for name, value in values.items()}
        for name in self._kept.keys() & some.keys():
            some[name] = some[name].index_select(2, torch.tensor(self._kept[name]))
        return some


def draw_shapes(draws: Values) -> dict[str, Shape]:
    """Shapes of draws in memory or on the disk, without reading them."""
    if isinstance(draws, StoredDraws):
        return dict(draws.shapes)
    return {name: tuple(value.shape) for name, value in draws.items()}


def draw_blocks(
    draws: Values, names: Sequence[str] | None = None
) -> Iterator[tuple[range, dict[str, Tensor]]]:
    """Draws in memory or on the disk, a block of observations after the other, in order.

    Args:
        draws: each (n, B, *shape); of those in memory blocks are views.
        names: the variables, which must have one B; all where left out.

    Yields:
        Numbers of the observations, and their draws, each (n, b, *shape).
    """
    wanted = list(draws if names is None else names)
    for first, last in _ends(draws, wanted):
        yield range(first, last), draw_block(draws, wanted, first, last)
        if isinstance(draws, StoredDraws):
            give_back()


def draw_block(draws: Values, names: Sequence[str], first: int, last: int) -> dict[str, Tensor]:
    """Draws in memory or on the disk for the observations `first` to `last - 1`, each (n, b, *shape)."""
    if isinstance(draws, StoredDraws):
        return draws.block(names, first, last)
    return {name: draws[name][:, first:last] for name in names}


def _ends(draws: Values, names: Sequence[str]) -> Iterator[tuple[int, int]]:
    """First observation and the one after the last of every block of some variables."""
    shapes = draw_shapes(draws)
    B = shapes[names[0]][1] if names else 0
    each = sum(4 * math.prod(shapes[name]) // max(1, shapes[name][1]) for name in names)
    rows = max(1, BLOCK_BYTES // max(1, each))
    return ((first, min(first + rows, B)) for first in range(0, B, rows))


def _runs(rows: Sequence[int]) -> list[tuple[int, int]]:
    """Ascending numbers as runs of neighbours: first and the one after the last."""
    runs: list[tuple[int, int]] = []
    for row in rows:
        if runs and runs[-1][1] == row:
            runs[-1] = (runs[-1][0], row + 1)
        else:
            runs.append((row, row + 1))
    return runs
