"""Joint draws from a store: a fixed number of training draws, read from the disk as they are asked for."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbikit.problem.errors import PluginError
from sbikit.simulations.layout import GOOD
from sbikit.simulations.store import Store
from sbikit.simulations.stream import Simulations

_CHUNKS_AT_ONCE = 4  # read together, so that the disk is busy and memory holds few of them beside the result


class Stored:
    """A `JointDraws` whose training draws are the good ones among the first of a store, in its order.

    Held-out draws are those of the run's own seed, from its held-out stream; whatever the seed of the store,
    the two share none.

    Args:
        store: where they lie.
        stream: of the run, for held-out draws.
        count: how many draws of the store are looked at.
    """

    def __init__(self, store: Store, stream: Simulations, count: int) -> None:
        self.simulator, self.spec, self.seed = stream.simulator, stream.spec, store.seed
        self._store = store
        self._good = np.flatnonzero(store.status(count) == GOOD)
        self._stream = stream
        self.size: int | None = len(self._good)

    def training(self, first: int, count: int) -> dict[str, Tensor]:
        """Training draws `first` to `first + count - 1`, each (count, *shape).

        Raises:
            PluginError: there are not so many.
            StoreError: one of them is damaged.
        """
        if not 0 <= first <= first + count <= len(self._good):
            raise PluginError(
                "There are not so many training simulations.",
                where=f"simulations.training({first}, {count})",
                expected=f"draws 0 to {len(self._good) - 1}",
                got=f"draws {first} to {first + count - 1}",
                fix="ask for no more than `simulations.size`, or keep more with `sbikit simulate DIR "
                "--simulations N`",
            )
        rows = self._good[first : first + count]
        out = {v.name: torch.empty(count, *v.shape) for v in self._store.variables}
        for start, end in self._pieces(rows):
            low, high = int(rows[start]), int(rows[end - 1]) + 1
            for name, values in self._store.read(low, high).items():
                wanted = values if high - low == end - start else values[rows[start:end] - low]
                out[name][start:end] = torch.from_numpy(wanted)
        return out

    def held_out(self, first: int, count: int) -> dict[str, Tensor]:
        """Draws of the held-out stream, which no estimator may see."""
        return self._stream.held_out(first, count)

    def _pieces(self, rows: NDArray[np.int64]) -> list[tuple[int, int]]:
        """Consecutive rows that lie in a few chunks, as ranges of their places."""
        groups = rows // (self._store.rows * _CHUNKS_AT_ONCE)
        starts = [0, *(np.flatnonzero(np.diff(groups)) + 1).tolist(), len(rows)]
        return [(a, b) for a, b in itertools.pairwise(starts) if a < b]
