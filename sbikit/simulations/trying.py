"""Draws that are tried by a pool of workers: the same to the bit, whoever tries them and in whatever order.

A chunk of draws has as many times the limit of one. Where it outlasts that, or its worker dies, its draws are
tried one at a time, each with its own limit: the one that outlasts it is what failed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count as numbers

import numpy as np
import torch

from sbikit.problem.errors import SimulationError
from sbikit.problem.variables import Values
from sbikit.roles.simulator import Simulator, method_of
from sbikit.simulations.attempts import Attempts, Given, Wanted, attempt_given, attempt_wanted, failed
from sbikit.simulations.tried import Failure
from sbikit.workers.pool import Lost, Pool, Recipe, Task

_MOST_TIMED = 16  # draws a task where each has a limit: one that hangs holds up no more of them


def simulating(simulator: Simulator, *, by_options: bool = False) -> Recipe:
    """How a worker makes what tries draws of a simulator.

    Args:
        simulator: the simulator; in this process it is used as it is.
        by_options: whether workers make it from its class and options, as every plug-in can be, which sends
            next to nothing; else, and where it has not kept its options, it is sent as it is, by pickle.
    """
    if by_options and hasattr(simulator, "options"):
        return Recipe(_made, (type(simulator), simulator.options), here=_Attempting(simulator))
    return Recipe(_Attempting, (simulator,), here=_Attempting(simulator))


def _made(cls: Callable[..., Simulator], options: object) -> _Attempting:
    return _Attempting(cls(options))


class _Attempting:
    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    def __call__(self, wanted: Wanted | Given) -> Attempts:
        if isinstance(wanted, Wanted):
            return attempt_wanted(self._simulator, wanted)
        return attempt_given(self._simulator, wanted)


def simulate_all(
    simulator: Simulator,
    seed: int,
    stream: str,
    tasks: Iterable[tuple[int, int]],
    pool: Pool,
    *,
    timeout: float | None = None,
) -> Iterator[Attempts]:
    """Try ranges of draws once each.

    Args:
        simulator: what the pool simulates.
        seed: seed of the run.
        stream: name of the stream.
        tasks: number of the first draw and how many, of each range; it is read as workers become free.
        pool: workers whose recipe is `simulating(simulator)`.
        timeout: seconds for one draw.

    Returns:
        Attempts of each range, as they are done.

    Raises:
        SimulationError: something is wrong that another draw would not mend.
    """
    trying = Trying(simulator, pool, timeout)
    source, more = iter(tasks), True
    try:
        while True:
            while more and trying.under_way < pool.room:
                task = next(source, None)
                if more := task is not None:
                    trying.give(Wanted(seed, stream, np.arange(task[0], task[0] + task[1])))
            found = trying.take()
            if found is None:
                return
            yield found[2]
    finally:
        trying.forget()


@dataclass
class _Open:
    """Draws of which some are yet to come: parts by the number of their first row."""

    wanted: Wanted
    missing: int
    parts: dict[int, Attempts] = field(default_factory=dict)


class Trying:
    """Draws under way.

    Args:
        simulator: what the pool simulates.
        pool: the workers.
        timeout: seconds for one draw.
    """

    def __init__(self, simulator: Simulator, pool: Pool, timeout: float | None = None) -> None:
        self._simulator, self._pool, self._timeout = simulator, pool, timeout
        self._open: dict[int, _Open] = {}
        self._next = numbers()

    @property
    def under_way(self) -> int:
        """How many of those given are yet to be taken."""
        return len(self._open)

    def give(self, wanted: Wanted, *, urgent: bool = False) -> int:
        """Draws to be tried, or to be tried before all others; the number that they come back with."""
        key, n = next(self._next), len(wanted.draws)
        self._open[key] = _Open(wanted, n)
        size = n if self._timeout is None else _MOST_TIMED
        starts = range(0, n, size)
        for row in reversed(starts) if urgent else starts:
            self._send(key, row, wanted.rows(slice(row, row + size)), urgent=urgent)
        return key

    def take(self, *, wait: bool = True) -> tuple[int, Wanted, Attempts] | None:
        """Draws that were given and what came of them; None where there are none yet, or none at all."""
        while self._open:
            result = self._pool.take(wait=wait)
            if result is None:
                return None
            key, row, wanted = result.task.key[1:]
            if result.task.key[0] is not self:
                continue
            if not isinstance(result, Lost):
                part = result.value
            elif len(wanted.draws) > 1:
                self._try_one_by_one(key, row, wanted)
                continue
            else:
                part = failed(self._simulator, wanted, self._failure(result), result.seconds)
            whole = self._add(key, row, part)
            if whole is not None:
                return whole
        return None

    def forget(self) -> None:
        """Give up what is under way."""
        if self._open:
            self._open.clear()
            self._pool.forget()

    def _send(self, key: int, row: int, wanted: Wanted, *, urgent: bool) -> None:
        n = len(wanted.draws)
        limit = None if self._timeout is None else n * self._timeout
        # A draw that ends its process is found one by one, which costs less than to try them together again.
        self._pool.give(
            Task((self, key, row, wanted), wanted, limit, lives=2 if n == 1 else 1), urgent=urgent
        )

    def _try_one_by_one(self, key: int, row: int, wanted: Wanted) -> None:
        for i in reversed(range(len(wanted.draws))):
            self._send(key, row + i, wanted.rows(slice(i, i + 1)), urgent=True)

    def _failure(self, lost: Lost) -> Failure:
        name = method_of(self._simulator)
        if lost.why == "timeout":
            words = f"longer than {self._timeout:g} s"
            fix = "give it more time (simulations.timeout), or narrow the prior"
            return Failure("timeout", words, SimulationError(f"{name} takes {words}.", fix=fix))
        fix = "mend the simulator there, or narrow its prior"
        error = SimulationError(f"{name} ends its process: {lost.words}.", fix=fix)
        return Failure("raised", f"it ends its process: {lost.words}", error)

    def _add(self, key: int, row: int, part: Attempts) -> tuple[int, Wanted, Attempts] | None:
        whole = self._open.get(key)
        if whole is None:
            return None
        whole.parts[row] = part
        whole.missing -= len(part.seeds)
        if whole.missing:
            return None
        del self._open[key]
        return key, whole.wanted, _joined(whole.parts)


def _joined(parts: Mapping[int, Attempts]) -> Attempts:
    """Parts by the number of their first row."""
    if len(parts) == 1:
        return parts[0]
    rows = sorted(parts)
    ordered = [parts[row] for row in rows]

    def together(values: list[Values]) -> Values:
        return {name: torch.cat([one[name] for one in values]) for name in values[0]}

    return Attempts(
        ordered[0].first,
        together([part.parameters for part in ordered]),
        np.concatenate([part.seeds for part in ordered]),
        together([part.outputs for part in ordered]),
        {row + i: failure for row in rows for i, failure in parts[row].failures.items()},
        np.concatenate([part.seconds for part in ordered]),
    )
