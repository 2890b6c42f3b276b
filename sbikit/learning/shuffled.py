"""Rows in the order of an epoch, from something that is read by ranges and may be larger than memory.

What fits in the budget is read once and kept, and an epoch goes through it in any order. What does not is
read in blocks of neighbouring rows: an epoch takes the blocks in random order, a group of them at a time, and
mixes the rows of a group. What is lost then: rows of one block are seen near each other in every epoch, and a
batch comes from few blocks. Rows that are independent of each other, as joint draws are, make such batches as
random as any; only which rows meet in a batch varies less from epoch to epoch.

The order depends on (seed, epoch) alone, so any step's batch can be had without those before it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from sbikit.problem.seeds import derive_seed, generator
from sbikit.problem.variables import Values

Read = Callable[[int, int], Values]
"""(first, count) -> rows `first` to `first + count - 1`, each (count, *shape)."""

BUDGET = 2**27
"""Numbers held at once, 537 MB. More keep larger sets whole, and mix more of those that are not."""

# Blocks that are mixed. More mix better, and read shorter ranges.
_MIXED = 8
# Rows a reading of what is kept whole: more need more memory beside it, fewer more calls.
_AT_ONCE = 512


@dataclass(frozen=True)
class Batch:
    """Rows of one step.

    Args:
        epoch: from 0.
        numbers: (B,) of the rows.
        values: each (B, *shape).
    """

    epoch: int
    numbers: Tensor
    values: dict[str, Tensor]

    def part(self, first: int, count: int | None) -> Batch:
        """Rows `first` to `first + count - 1` of it, all that follow `first` without a count."""
        some = slice(first, None if count is None else first + count)
        return Batch(self.epoch, self.numbers[some], {name: v[some] for name, v in self.values.items()})


class Shuffled:
    """Batches of rows 0 to count - 1, each row once an epoch; the last batch of an epoch may be smaller.

    The next group of blocks is read in a thread while this one is used; `read` is never called by two threads
    at once.

    Args:
        read: gives the rows.
        count: how many there are.
        batch: rows a step.
        seed: fixes the order.
        budget: numbers that are held at once.
    """

    def __init__(self, read: Read, count: int, *, batch: int, seed: int, budget: int = BUDGET) -> None:
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="read ahead")
        self._read, self._count, self._batch, self._seed = read, count, batch, seed
        numbers = sum(value[0].numel() for value in self.apart(read, 0, 1).values())
        self._kept_whole = count * numbers <= budget
        self._block = _AT_ONCE if self._kept_whole else max(1, budget // (2 * _MIXED * numbers))
        self._whole: dict[str, Tensor] | None = None
        self._groups: dict[tuple[int, int], Future[dict[str, Tensor]]] = {}
        self._orders: dict[int, list[Tensor]] = {}

    @classmethod
    def held(cls, values: Values, *, batch: int, seed: int) -> Shuffled:
        """Of rows (count, *shape) that are in memory."""

        def read(first: int, count: int) -> Values:
            return {name: value[first : first + count] for name, value in values.items()}

        count = len(next(iter(values.values())))
        found = cls(read, count, batch=batch, seed=seed, budget=sum(v.numel() for v in values.values()))
        found._whole = dict(values)
        return found

    @property
    def batches(self) -> int:
        """Steps of an epoch."""
        return math.ceil(self._count / self._batch)

    def rows(self, step: int) -> int:
        """How many rows a step has."""
        return min(self._batch, self._count - step % self.batches * self._batch)

    def apart(self, read: Read, first: int, count: int) -> dict[str, Tensor]:
        """What another `read` of the same source gives, when no one else reads it."""
        return dict(self._reader.submit(read, first, count).result())

    def batch(self, step: int) -> Batch:
        """The rows of a step."""
        epoch, place = divmod(step, self.batches)
        start, end = place * self._batch, min(self._count, (place + 1) * self._batch)
        numbers, values, first = [], [], 0
        for group, rows in enumerate(self._order(epoch)):
            part = slice(max(start - first, 0), max(end - first, 0))
            if len(rows[part]):
                numbers.append(rows[part])
                values.append(self._of_group(epoch, group, part))
            first += len(rows)
        joined = {name: torch.cat([value[name] for value in values]) for name in values[0]}
        return Batch(epoch, torch.cat(numbers), joined)

    def _order(self, epoch: int) -> list[Tensor]:
        """The rows of each group in the order of an epoch."""
        if epoch not in self._orders:
            self._orders = {e: order for e, order in self._orders.items() if e == epoch - 1}
            source = generator(derive_seed(self._seed, "epoch", epoch))
            if self._kept_whole:
                self._orders[epoch] = [torch.randperm(self._count, generator=source)]
            else:
                blocks = torch.randperm(math.ceil(self._count / self._block), generator=source)
                groups = [self._rows(some) for some in blocks.split(_MIXED)]
                self._orders[epoch] = [g[torch.randperm(len(g), generator=source)] for g in groups]
        return self._orders[epoch]

    def _rows(self, blocks: Tensor) -> Tensor:
        """The rows of some blocks, block by block."""
        rows = (blocks[:, None] * self._block + torch.arange(self._block)).flatten()
        return rows[rows < self._count]

    def _of_group(self, epoch: int, group: int, part: slice) -> dict[str, Tensor]:
        """Some of the rows of a group, in its order."""
        if not self._kept_whole:
            return {name: value[part] for name, value in self._group(epoch, group).items()}
        if self._whole is None:
            self._whole = self._reader.submit(self._gather, torch.arange(self._count)).result()
        numbers = self._order(epoch)[group][part]
        return {name: value[numbers] for name, value in self._whole.items()}

    def _group(self, epoch: int, group: int) -> dict[str, Tensor]:
        """The rows of a group in its order, with the next one on its way."""
        follows = (epoch, group + 1) if group + 1 < len(self._order(epoch)) else (epoch + 1, 0)
        wanted = [(epoch, group), follows]
        self._groups = {key: value for key, value in self._groups.items() if key in wanted}
        for key in wanted:
            if key not in self._groups:
                rows = self._order(key[0])[key[1]]
                self._groups[key] = self._reader.submit(self._gather, rows)
        return self._groups[wanted[0]].result()

    def _gather(self, rows: Tensor) -> dict[str, Tensor]:
        """Rows in their order, read block by block."""
        held: dict[str, Tensor] = {}
        for block in torch.unique(rows // self._block).tolist():
            first = block * self._block
            values = self._read(first, min(self._block, self._count - first))
            here = (rows // self._block == block).nonzero().flatten()
            for name, value in values.items():
                if name not in held:
                    held[name] = value.new_empty(len(rows), *value.shape[1:])
                held[name][here] = value[rows[here] - first]
        return held
