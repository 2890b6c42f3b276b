"""One of the processes of a fit on several devices: it opens the run folder anew and trains its share."""

from __future__ import annotations

import os
import pickle
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from rich.console import Console

from sbikit.learning.devices import leave, meet
from sbikit.plugins.session import hold
from sbikit.problem.errors import SbikitError
from sbikit.roles.monitor import QuietMonitor, Workspace
from sbikit.runs.config import read_whole_config
from sbikit.runs.console_monitor import ConsoleMonitor
from sbikit.runs.devices import Devices, choose_precision
from sbikit.runs.fitting import first_draws, fit_here
from sbikit.runs.folder import RunFolder
from sbikit.runs.job import Run

_PARENT_IS_GONE = 70


@dataclass(frozen=True)
class Task:
    """What a process has to know.

    Args:
        folder: the run folder.
        device: "cpu" or "cuda".
        rank: number of the process.
        devices: on what the estimator is fitted.
        place: where the processes meet.
        plugins: those of the session that the run was asked for in, by cloudpickle.
    """

    folder: Path
    device: str
    rank: int
    devices: Devices
    place: Path
    plugins: bytes


class PipeMonitor:
    """A `Monitor` that sends what it is told to the process that started this one."""

    def __init__(self, send: Callable[[str, object], None]) -> None:
        self._send = send
        self._open = 0

    def say(self, text: str) -> None:
        """See `Monitor.say`."""
        self._send("say", text)

    def log(self, **record: float | int | str) -> None:
        """See `Monitor.log`."""
        self._send("log", record)

    @contextmanager
    def progress(self, title: str, total: int, start: int = 0) -> Iterator[Callable[[int], None]]:
        """See `Monitor.progress`."""
        index = self._open
        self._send("progress", (title, total, start))
        self._open += 1
        try:
            yield lambda count: self._send("advance", (index, count))
        finally:
            self._open -= 1
            self._send("finished", index)


def fit_rank(task: Task, pipe: Connection) -> None:
    """Train as process `task.rank`, and say through the pipe how that ended."""
    threading.Thread(target=_watch, args=(pipe,), daemon=True).start()
    lock = threading.Lock()

    def send(kind: str, what: object) -> None:
        with lock:
            pipe.send((kind, what))

    try:
        send("done", _fit(task, PipeMonitor(send)))
    except SbikitError as error:
        send("refused", error)
    except Exception as error:
        send("failed", (f"{type(error).__name__}: {error}", traceback.format_exc()))


def _watch(pipe: Connection) -> None:
    """End this process when the one that started it is gone: it never sends anything."""
    try:
        pipe.recv_bytes()
    except (EOFError, OSError):
        os._exit(_PARENT_IS_GONE)


def _fit(task: Task, monitor: PipeMonitor) -> int:
    """How far into the training stream this process has drawn."""
    torch.set_num_threads(max(1, torch.get_num_threads() // task.devices.count))
    team = meet(task.rank, task.devices.count, task.device, task.place)
    name = f"cuda:{task.rank}" if task.device == "cuda" else "cpu"
    device = torch.device(name)
    hold(pickle.loads(task.plugins))
    opened = RunFolder(task.folder, read_whole_config(task.folder / "run.yaml"))
    run = Run(opened, ConsoleMonitor(Console(quiet=True)), device)
    dtype = choose_precision(task.devices.precision, device)
    workspace = Workspace(run.folder.unfinished, device, team, task.devices.batch, dtype)
    kept = first_draws(run)
    fit_here(run, kept, workspace, monitor if task.rank == 0 else QuietMonitor())
    kept.flush()
    leave()
    return kept.reached
