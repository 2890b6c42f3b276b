"""A fit on several devices: a process each, which this one starts, listens to, and ends.

The first process reports through a pipe, so that one process alone writes logs and draws bars. Where one of
them fails, or this one is interrupted, all are ended; where this one is killed they see their pipe close and
end themselves. Checkpoints are written whole or not at all, so the same command then goes on.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import cloudpickle

from sbikit.plugins.session import holding
from sbikit.problem.errors import DeviceError, SbikitError
from sbikit.roles.monitor import Monitor
from sbikit.runs.job import Run
from sbikit.runs.rank import Task, fit_rank

_GRACE = (
    5.0  # seconds for a process to end when it is asked to; what it is in the middle of is lost either way
)
_TOLD_BY_TORCH = "TORCH_CPP_LOG_LEVEL"


class RankFailed(Exception):
    """A process raised what is no mistake of the user."""


@dataclass
class _Rank:
    process: BaseProcess
    pipe: Connection
    reached: int | None = None


@dataclass
class _Listener:
    """Does with a monitor what the first process asks for."""

    monitor: Monitor
    bars: list[tuple[AbstractContextManager[Callable[[int], None]], Callable[[int], None]]] = field(
        default_factory=list
    )

    def hear(self, kind: str, what: Any) -> None:
        if kind == "say":
            self.monitor.say(what)
        elif kind == "log":
            self.monitor.log(**what)
        elif kind == "progress":
            bar = self.monitor.progress(*what)
            self.bars.append((bar, bar.__enter__()))
        elif kind == "advance":
            index, count = what
            self.bars[index][1](count)
        elif kind == "finished":
            self.bars.pop()[0].__exit__(None, None, None)

    def close(self) -> None:
        while self.bars:
            self.bars.pop()[0].__exit__(None, None, None)


def fit_on_devices(run: Run) -> int:
    """Fit the run's estimator on `run.devices` devices.

    Returns:
        How far into the training stream its processes have drawn.

    Raises:
        SbikitError: what a process refuses.
        DeviceError: a process was ended from outside.
        RankFailed: a process raised anything else.
    """
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="sbikit-") as place, ExitStack() as stack:
        listener = _Listener(run.monitor)
        stack.callback(listener.close)
        ranks: list[_Rank] = []
        stack.callback(_end, ranks)
        for rank in range(run.devices.count):
            task = Task(
                folder=run.folder.path.absolute(),
                device=run.device.type,
                rank=rank,
                devices=run.devices,
                place=Path(place) / "meeting",
                plugins=cloudpickle.dumps(holding(run.config.chosen())),
            )
            here, there = context.Pipe()
            process = context.Process(target=fit_rank, args=(task, there), name=f"sbikit rank {rank}")
            with _uninterrupted(), _without_warnings():
                process.start()
            there.close()
            ranks.append(_Rank(process, here))
        while any(rank.reached is None for rank in ranks):
            _listen(ranks, listener)
        return max(rank.reached or 0 for rank in ranks)


def _listen(ranks: Sequence[_Rank], listener: _Listener) -> None:
    """Take one message of each process that has one.

    Raises:
        As `fit_on_devices`.
    """
    going = {rank.pipe: (number, rank) for number, rank in enumerate(ranks) if rank.reached is None}
    for pipe in wait(list(going)):
        number, rank = going[pipe]  # type: ignore[index]
        try:
            kind, what = rank.pipe.recv()
        except (EOFError, ConnectionError):
            _raise_first(ranks)
            rank.process.join(_GRACE)
            raise _ended(number, rank.process.exitcode) from None
        if kind == "done":
            rank.reached = what
        elif kind == "refused":
            raise what
        elif kind == "failed":
            summary, told = what
            raise RankFailed(f"{summary} (process {number} of {len(ranks)})\n{told}")
        else:
            listener.hear(kind, what)


def _raise_first(ranks: Sequence[_Rank]) -> None:
    """Where one process fails the others may notice first; what is said is what the one at fault says."""
    for number, rank in enumerate(ranks):
        try:
            while rank.reached is None and rank.pipe.poll():
                kind, what = rank.pipe.recv()
                if kind == "refused":
                    raise what
                if kind == "failed":
                    raise RankFailed(f"{what[0]} (process {number} of {len(ranks)})\n{what[1]}")
        except (EOFError, ConnectionError):
            continue


def _ended(number: int, code: int | None) -> SbikitError:
    name = signal.Signals(-code).name if code is not None and code < 0 else f"exit status {code}"
    return DeviceError(
        f"The process of device {number} was ended before the training was; the others were ended, too.",
        where=f"device {number}",
        got=name,
        fix="the same command goes on from the last checkpoint; if memory ran out, ask for fewer simulations "
        "at once, --set device_batch=N",
    )


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """What is started in the block never sees Ctrl-C; this process does, when the block ends."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Of what is started in the block torch's libraries tell errors alone, where the user has not chosen
    otherwise: DDP warns that it looks for weights without a gradient. They ask when torch is loaded, before a
    process knows its task.
    """
    before = os.environ.get(_TOLD_BY_TORCH)
    os.environ[_TOLD_BY_TORCH] = before or "ERROR"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_TOLD_BY_TORCH]


def _end(ranks: Sequence[_Rank]) -> None:
    """End all processes that have not ended, and wait for them."""
    for rank in ranks:
        if rank.reached is None:
            rank.process.terminate()
    for rank in ranks:
        rank.process.join(_GRACE if rank.reached is None else None)
        if rank.process.exitcode is None:
            rank.process.kill()
            rank.process.join()
        rank.process.close()
        rank.pipe.close()
