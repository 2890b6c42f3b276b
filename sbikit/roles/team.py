"""The processes that train one network together, each on a device of its own.

All of them run the same code: each calls every method of its team that the others call, in the same order.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import Tensor, nn


class Team(Protocol):
    """What the processes can do together.

    Attributes:
        rank: number of this process, from 0.
        size: how many there are.
    """

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int: ...

    def add(self, value: Tensor) -> Tensor:
        """The sum over the processes of a tensor of one shape, the same to the bit in each."""
        ...

    def join(self, part: Tensor) -> Tensor:
        """The parts (n_r, *shape) of all processes r, one after the other, (sum of n_r, *shape)."""
        ...

    def agree(self, module: nn.Module) -> None:
        """Give all processes the weights and constants that the first has."""
        ...

    def together(self, module: nn.Module) -> nn.Module:
        """The module such that `backward` through its output averages its gradients over the processes."""
        ...

    def apart(self, module: nn.Module) -> AbstractContextManager[None]:
        """In the block `backward` through a module of `together` leaves gradients unaveraged: more follow."""
        ...


@dataclass(frozen=True)
class Alone:
    """A `Team` of one process."""

    rank: ClassVar[int] = 0
    size: ClassVar[int] = 1

    def add(self, value: Tensor) -> Tensor:
        """The value."""
        return value

    def join(self, part: Tensor) -> Tensor:
        """The part."""
        return part

    def agree(self, module: nn.Module) -> None:
        """Nothing is to be done."""

    def together(self, module: nn.Module) -> nn.Module:
        """The module."""
        return module

    def apart(self, module: nn.Module) -> AbstractContextManager[None]:
        """Nothing is to be done."""
        del module
        return nullcontext()


def shares(count: int, size: int) -> list[tuple[int, int]]:
    """Rows 0 to count - 1 in `size` pieces one after the other, each (first, count), as even as they can be.

    The larger ones come first; where there are fewer rows than pieces, the last ones are empty.
    """
    least, more = divmod(count, size)
    counts = [least + (rank < more) for rank in range(size)]
    return [(sum(counts[:rank]), counts[rank]) for rank in range(size)]
