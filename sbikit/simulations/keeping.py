"""Filling a store: which draws are missing, who draws them, and when too many fail."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from sbikit.problem.errors import SimulationError, StoreError
from sbikit.roles.monitor import Monitor
from sbikit.roles.simulator import Simulator
from sbikit.simulations.attempts import Attempts, too_many
from sbikit.simulations.importing import DrawsFile, import_draws
from sbikit.simulations.layout import GOOD, KINDS, MISSING, STREAM, array_of
from sbikit.simulations.store import Store, check_room, exists
from sbikit.simulations.trying import simulate_all
from sbikit.simulations.writer import Writer, writing
from sbikit.workers.pool import Pool

Piece: TypeAlias = tuple[int, int]
"""Number of the first draw, and how many: they lie in one chunk."""

_MEASURED = 2  # draws that tell how long one takes: of the first, much may be preparation
_EXAMPLES = 3  # failures of a kind that are shown


@dataclass(frozen=True)
class Asked:
    """What is to be kept.

    Args:
        path: the store.
        simulator: what is drawn.
        identity: see `Store.open`.
        seed: of the stream, where the store is not there yet.
        count: how many draws.
        most: the largest share of them that may fail.
        timeout: seconds after which a draw counts as failed; None: never.
        given: draws that were made elsewhere, the first of the store.
    """

    path: Path
    simulator: Simulator
    identity: Mapping[str, Any]
    seed: int
    count: int
    most: float = 0.1
    timeout: float | None = None
    given: DrawsFile | None = None


@dataclass(frozen=True)
class Kept:
    """What a store holds of what was asked for.

    Args:
        count: draws.
        good: how many of them are good.
        failures: kind -> how many failed.
        content: digest of them all, see `Store.content`.
    """

    count: int
    good: int
    failures: Mapping[str, int]
    content: str

    @classmethod
    def of(cls, store: Store, count: int) -> Kept:
        """Of the first `count` draws of a store, those that are missing left out of all numbers."""
        found = Counter(store.status(count).tolist())
        failures = {kind: found[code] for code, kind in KINDS.items() if found[code]}
        return cls(count - found[MISSING], found[GOOD], failures, store.content(count))


def keep(asked: Asked, workers: Callable[[], Pool], monitor: Monitor) -> Kept:
    """Draw what is missing of the first `count` draws of a store, which is made where it is missing.

    Args:
        asked: what is to be kept.
        workers: gives a pool of them, see `simulating`; called where something is missing.
        monitor: hears of progress and failures.

    Raises:
        SimulationError: more draws fail than may; what was drawn is kept.
        StoreError: see `writing`.
    """
    if not exists(asked.path) and asked.given is not None:
        imported = asked.given.draws, asked.given.content
        Store.create(
            asked.path, asked.simulator, asked.identity, seed=asked.seed, seconds=0.0, imported=imported
        )
    if not exists(asked.path):
        check_room(asked.path)
        with workers() as pool:
            return _keep(asked, _measured(asked, pool), pool, monitor)
    store = Store.open(asked.path, asked.simulator, asked.identity)
    refuse_another_import(asked, store)
    if not pieces(store, asked.count):
        _Tally(asked, store, monitor).check()
        return Kept.of(store, asked.count)
    with workers() as pool:
        return _keep(asked, (), pool, monitor)


def _keep(asked: Asked, first: Sequence[Attempts], pool: Pool, monitor: Monitor) -> Kept:
    with writing(asked.path, asked.simulator, asked.identity) as writer:
        writer.grow(asked.count)
        for attempts in first:
            if writer.store.small("status", attempts.first, attempts.first + 1)[0] == MISSING:
                writer.put(attempts)
        _fill(writer, asked, pool, monitor)
        return Kept.of(writer.store, asked.count)


def mend(asked: Asked, monitor: Monitor) -> int:
    """Compare what is there of the draws with their digests; how many are damaged, and missing from then on.

    Raises:
        StoreError: see `writing`.
    """
    total = 0
    with (
        writing(asked.path, asked.simulator, asked.identity) as writer,
        monitor.progress("reading kept simulations", min(asked.count, len(writer.store))) as advance,
    ):
        for looked_at, damaged in writer.mend(asked.count):
            total += damaged
            advance(looked_at)
    if total:
        monitor.say(f"{asked.path}: {total} draws are damaged, and count as missing")
    return total


def pieces(store: Store, count: int) -> list[Piece]:
    """The missing ones among the first `count` draws."""
    missing = np.flatnonzero(store.status(count) == MISSING)
    breaks = (np.diff(missing) > 1) | (np.diff(missing // store.rows) > 0)
    runs = np.split(missing, np.flatnonzero(breaks) + 1)
    return [(int(run[0]), len(run)) for run in runs if len(run)]


def _measured(asked: Asked, pool: Pool) -> Sequence[Attempts]:
    """The first draws, one by one, and a store with chunks for draws that take as long."""
    alone = [(row, 1) for row in range(min(_MEASURED, asked.count))]
    found = list(simulate_all(asked.simulator, asked.seed, STREAM, alone, pool, timeout=asked.timeout))
    seconds = min(float(one.seconds.mean()) for one in found)
    Store.create(asked.path, asked.simulator, asked.identity, seed=asked.seed, seconds=seconds)
    return found


def _fill(writer: Writer, asked: Asked, pool: Pool, monitor: Monitor) -> None:
    store, count = writer.store, asked.count
    tally = _Tally(asked, store, monitor)
    tally.check()
    todo = pieces(store, count)
    left = sum(n for _, n in todo)
    given, drawn = _parted(todo, 0 if asked.given is None else asked.given.draws)
    coming = simulate_all(asked.simulator, store.seed, STREAM, drawn, pool, timeout=asked.timeout)
    title = "simulating" if drawn or not given else "importing"
    with monitor.progress(title, count, count - left) as advance:
        for attempts in itertools.chain(_imported(asked, store, given), coming):
            writer.put(attempts)
            advance(len(attempts.seconds))
            tally.add(attempts)
            tally.check()


def _parted(todo: Sequence[Piece], given: int) -> tuple[list[Piece], list[Piece]]:
    """The pieces below draw `given`, and the others."""
    below = [(first, min(n, given - first)) for first, n in todo if first < given]
    above = [(max(first, given), first + n - max(first, given)) for first, n in todo if first + n > given]
    return below, above


def _imported(asked: Asked, store: Store, todo: Sequence[Piece]) -> Iterator[Attempts]:
    for first, n in todo:
        if asked.given is not None:
            yield from import_draws(
                asked.given, asked.simulator, store.seed, range(first, first + n), store.rows
            )


def refuse_another_import(asked: Asked, store: Store) -> None:
    """Refuse to import draws where others are.

    Raises:
        StoreError: the store holds draws of another file, or of the simulator.
    """
    if asked.given is None or (asked.given.draws, asked.given.content) == store.imported:
        return
    raise StoreError(
        "These simulations cannot be imported: others are kept here already.",
        where=str(asked.path),
        expected="a store of the same file, or none",
        got=f"{store.imported[0]} draws of another file" if store.imported[0] else "draws of the simulator",
        fix="choose another --store, or another run folder",
    )


class _Tally:
    """How many draws were tried, and which failed."""

    def __init__(self, asked: Asked, store: Store, monitor: Monitor) -> None:
        status = store.status(asked.count)
        self._asked, self._store, self._monitor = asked, store, monitor
        self._tried = int((status != MISSING).sum())
        self._failed = self._tried - int((status == GOOD).sum())

    def add(self, attempts: Attempts) -> None:
        before = self._failed
        self._tried += len(attempts.seconds)
        self._failed += len(attempts.failures)
        if self._failed.bit_length() > before.bit_length():  # the 1st, 2nd, 4th, 8th, ...
            row, failure = next(iter(attempts.failures.items()))
            self._monitor.say(
                f"{self._failed} of {self._tried} draws failed so far; the last, draw "
                f"{attempts.first + row}: {failure.words}"
            )

    def check(self) -> None:
        if not too_many(self._failed, self._tried, self._asked.most):
            return
        share = f"{100 * self._failed / self._tried:.3g} %"
        raise SimulationError(
            f"Too many draws fail: {self._failed} of {self._tried}, {share}. Those that are good are kept.",
            where=str(self._asked.path),
            expected=f"at most {100 * self._asked.most:.3g} %, but for chance (simulations.max_failures)",
            got=failures_in_words(self._store, self._asked.count),
            fix="mend the simulator, narrow its prior, or raise simulations.max_failures",
        )


def failures_in_words(store: Store, count: int) -> str:
    """How many of the first `count` draws failed in which way, with examples, a line a kind."""
    status = store.status(count)
    lines = []
    for code, kind in KINDS.items():
        rows = np.flatnonzero(status == code)
        if len(rows):
            shown = "; ".join(describe(store, int(row)) for row in rows[:_EXAMPLES])
            lines.append(f"{len(rows)} {kind}: {shown}" + (", ..." if len(rows) > _EXAMPLES else ""))
    return "\n            ".join(lines)


def describe(store: Store, row: int) -> str:
    """A failed draw: its number, parameters and reason."""
    vector = store.variables[0]
    theta = store.arrays[array_of(vector)].read(row, row + 1)[0].tolist()
    labels = getattr(vector, "labels", ())
    values = ", ".join(f"{label}={value:.6g}" for label, value in zip(labels, theta, strict=True))
    return f"draw {row} ({values}) {store.reasons.of(row)}".rstrip()
