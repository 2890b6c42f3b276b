"""Ranges of draws under way on a pool of workers; a draw that fails is attempted again until it is good.

Draw i is the first good one of its attempts 0, 1, 2, ...: of the joint law given that the simulator works,
whoever draws it, together with whatever, and in whatever order.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbikit.problem.errors import SimulationError
from sbikit.roles.simulator import Simulator, method_of
from sbikit.simulations.attempts import Attempts, Wanted
from sbikit.simulations.left_out import LeftOut, LeftOutDraw
from sbikit.simulations.trying import Trying
from sbikit.workers.pool import Pool

_MOST_ATTEMPTS = 1000  # at one draw: of a simulator that fails nine times in ten, once in 1e46 draws


@dataclass
class Range:
    """Draws that were asked for.

    Args:
        stream: name of the stream.
        first, count: which.

    Attributes:
        values: what is there of them, each (count, *shape).
        seeds: (count,) of the simulator.
        attempts: (count,) how many attempts each has taken.
    """

    stream: str
    first: int
    count: int
    values: dict[str, Tensor] = field(default_factory=dict)
    seeds: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    attempts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    missing: int = 0
    failures: list[tuple[LeftOutDraw, SimulationError]] = field(default_factory=list)
    came_back: Counter[int] = field(default_factory=Counter)
    """Number of the attempt -> how many draws have had it."""

    def __post_init__(self) -> None:
        self.seeds, self.attempts = np.zeros(self.count, dtype=np.int64), np.zeros(self.count, dtype=np.int64)
        self.missing = self.count

    def fill(self, rows: NDArray[np.int64], found: Attempts) -> NDArray[np.int64]:
        """Put the good ones among attempts at some rows in their place; the rows to be drawn again."""
        good = np.array([i not in found.failures for i in range(len(rows))])
        self.attempts[rows] += 1
        parts = {**found.parameters, **found.outputs}
        if len(rows) == self.count and good.all():
            self.values, self.seeds, self.missing = parts, found.seeds, 0
            return rows[:0]
        for name, part in parts.items():
            if name not in self.values:
                self.values[name] = part.new_zeros(self.count, *part.shape[1:])
            self.values[name][torch.from_numpy(rows[good])] = part[torch.from_numpy(good)]
        self.seeds[rows[good]] = found.seeds[good]
        self.missing -= int(good.sum())
        return rows[~good]

    def whole_rounds(self) -> tuple[int, list[LeftOutDraw]]:
        """Attempts made, and failures, up to the last one that all draws that needed it have had.

        They do not depend on the order in which parts come back.
        """
        failed = sorted((one for one, _ in self.failures), key=lambda one: (one.attempt, one.draw))
        by_attempt = Counter(one.attempt for one in failed)
        tried, due = 0, self.count
        for attempt in range(len(self.came_back)):
            if self.came_back[attempt] < due:
                return tried, [one for one in failed if one.attempt < attempt]
            tried, due = tried + due, by_attempt[attempt]
        return tried, failed


class Drawing:
    """Draws under way.

    Args:
        simulator: what the pool simulates.
        seed: seed of the run.
        pool: the workers.
        timeout: seconds for one draw; None: without end.
        left_out: the record of failures, and how many there may be.
    """

    def __init__(
        self, simulator: Simulator, seed: int, pool: Pool, timeout: float | None, left_out: LeftOut
    ) -> None:
        self._simulator, self._seed, self._pool, self._left_out = simulator, seed, pool, left_out
        self._trying = Trying(simulator, pool, timeout)
        self._ranges: dict[int, Range] = {}

    def begin(self, stream: str, first: int, count: int, *, urgent: bool = False) -> Range:
        """Give draws to the workers, as many parts as there are workers."""
        wanted = Range(stream, first, count)
        size = -(-count // self._pool.workers)
        starts = range(0, count, size)
        for row in reversed(starts) if urgent else starts:
            draws = np.arange(first + row, first + min(row + size, count))
            self._give(wanted, Wanted(self._seed, stream, draws), urgent=urgent)
        return wanted

    def finish(self, wanted: Range) -> Range:
        """Wait for draws that were begun, and note their failures.

        Raises:
            SimulationError: too many fail, one fails again and again, or something is wrong that another draw
                would not mend.
        """
        while wanted.missing:
            self._refuse_failures(wanted)
            self._take(wait=True)
        failures = sorted((one for one, _ in wanted.failures), key=lambda one: (one.draw, one.attempt))
        self._left_out.add(wanted.stream, wanted.first, wanted.attempts.tolist(), failures)
        self._left_out.check(method_of(self._simulator))
        return wanted

    def look(self) -> None:
        """See what has come back, without waiting."""
        while self._take(wait=False):
            pass

    def forget(self) -> None:
        """Give up what is under way."""
        self._ranges.clear()
        self._trying.forget()

    def _give(self, wanted: Range, part: Wanted, *, urgent: bool) -> None:
        self._ranges[self._trying.give(part, urgent=urgent)] = wanted

    def _take(self, *, wait: bool) -> bool:
        taken = self._trying.take(wait=wait)
        if taken is None:
            return False
        number, part, found = taken
        wanted = self._ranges.pop(number)
        wanted.came_back[part.attempt] += len(part.draws)
        theta = found.parameters[self._simulator.prior.name]
        for row, failure in found.failures.items():
            values = dict(zip(self._simulator.prior.laws, theta[row].tolist(), strict=True))
            draw = int(part.draws[row])
            one = LeftOutDraw(part.stream, draw, part.attempt, values, failure.kind, failure.words)
            wanted.failures.append((one, failure.error))
        again = wanted.fill(part.draws - wanted.first, found)
        if len(again) and part.attempt + 1 < _MOST_ATTEMPTS and self._left_out.most:
            draws = again + wanted.first
            self._give(wanted, Wanted(self._seed, part.stream, draws, part.attempt + 1), urgent=True)
        return True

    def _refuse_failures(self, wanted: Range) -> None:
        if not wanted.failures:
            return
        if not self._left_out.most:
            raise min(wanted.failures, key=lambda one: one[0].draw)[1]
        self._left_out.check(method_of(self._simulator), *wanted.whole_rounds())
        last, error = max(wanted.failures, key=lambda one: one[0].attempt)
        if last.attempt + 1 >= _MOST_ATTEMPTS:
            raise SimulationError(
                f"Each of {_MOST_ATTEMPTS} attempts at a draw fails.",
                where=error.where,
                expected="a simulator that works in most of its prior",
                got=f"{last.kind}: {last.words}",
                fix="mend the simulator, or narrow its prior",
            )
