"""Rows that are gone through in parts, again and again, so that no more than a part need be in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sbikit.problem.variables import Values

_GROWTH = 2  # of a block that is full


@dataclass(frozen=True)
class Parts:
    """Rows by name; every part of m of them has tensors (m, *shape).

    Args:
        go: starts at the first part again.
    """

    go: Callable[[], Iterator[Values]]

    @staticmethod
    def held(values: Values) -> Parts:
        """One part, in memory."""
        return Parts(lambda: iter((values,)))

    def __iter__(self) -> Iterator[Values]:
        return self.go()

    def each(self, name: str) -> Iterator[Tensor]:
        """One tensor of every part."""
        return (part[name] for part in self)

    def through(self, function: Callable[[Values], Values]) -> Parts:
        """What a function makes of every part, each time anew."""
        return Parts(lambda: map(function, self.go()))

    def up_to(self, count: int) -> Parts:
        """The first rows alone, `count` at most."""

        def go() -> Iterator[Values]:
            left = count
            for part in self:
                yield {name: value[:left] for name, value in part.items()}
                left -= len(next(iter(part.values())))
                if left <= 0:
                    return

        return Parts(go)

    def joined(self) -> dict[str, Tensor]:
        """All rows, in memory."""
        found: dict[str, _Rows] = {}
        for part in self:
            for name, value in part.items():
                found.setdefault(name, _Rows()).add(value)
        return {name: rows.all() for name, rows in found.items()}


class _Rows:
    """Rows in one block that grows.

    Small results of every part, kept as they are, would lie between the large ones that come and go, and
    glibc's heap then grows by nearly a part for each of them.
    """

    def __init__(self) -> None:
        self._block = torch.empty(0)
        self._count = 0

    def add(self, rows: Tensor) -> None:
        if not self._count:
            self._block = rows
        else:
            count = self._count + len(rows)
            if count > len(self._block):
                grown = rows.new_empty(max(count, _GROWTH * len(self._block)), *rows.shape[1:])
                grown[: self._count] = self._block[: self._count]
                self._block = grown
            self._block[self._count : count] = rows
        self._count += len(rows)

    def all(self) -> Tensor:
        return self._block if self._count == len(self._block) else self._block[: self._count]
