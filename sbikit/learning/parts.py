"""Rows that are gone through in parts, again and again, so that no more than a part need be in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sbikit.problem.variables import Values


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
        parts = list(self)
        if len(parts) == 1:
            return dict(parts[0])
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
