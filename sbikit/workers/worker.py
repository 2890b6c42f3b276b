"""A worker process as the process that starts it sees it.

It is started anew, not forked: threads and locks of this process are no part of it. Each has a session of its
own, so that it is ended together with what it has started, and Ctrl-C reaches this process alone.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from multiprocessing import spawn
from multiprocessing.connection import Connection
from pathlib import Path

import cloudpickle

from sbikit.problem.errors import PluginError
from sbikit.workers.pool import Recipe

_START = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
    "from sbikit.workers.child import serve; serve(int(sys.argv[2]), float(sys.argv[3]))"
)
_ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)


def packed(recipe: Recipe) -> tuple[bytes, bytes]:
    """What a worker is told first: how to find `__main__`, empty if it need not, and its recipe.

    Classes and functions of a module go by name. Those of a notebook, or made inside of a function, have none
    that another process could find, and go with their code.

    Raises:
        PluginError: the recipe cannot be sent to another process.
    """
    try:
        content = _by_name((recipe.make, recipe.arguments))
        if content is None:
            return b"", cloudpickle.dumps((recipe.make, recipe.arguments), protocol=5)
    except Exception as error:
        raise PluginError(
            "A worker process cannot be told how to make its function.",
            where=", ".join(type(argument).__name__ for argument in recipe.arguments) or str(recipe.make),
            expected="classes, functions and attributes that pickle or cloudpickle can send",
            got=f"{type(error).__name__}: {error}",
            fix="open files and libraries where they are used, not where the object is made; "
            "or do without workers",
        ) from error
    if b"_main__" not in content:  # __main__, or __mp_main__ where a worker runs it
        return b"", content
    main = spawn.get_preparation_data("sbikit worker")
    main.pop("authkey", None)
    return pickle.dumps(main), content


def _by_name(what: object) -> bytes | None:
    """What pickle makes of it; None where another process could not find its classes and functions."""
    try:
        content = pickle.dumps(what, protocol=5)
    except (pickle.PicklingError, AttributeError, TypeError):
        return None
    script = Path(getattr(sys.modules["__main__"], "__file__", None) or "")
    return None if b"__main__" in content and not script.is_file() else content


class Worker:
    """One worker process.

    Args:
        told: what `packed` gives.
        idle: it ends itself where it gets no task for so many seconds; 0: never.

    Attributes:
        connection: what it says comes here.
        pid: its number.
        ready: whether it has said that it has its function, which whoever hears it notes.
    """

    def __init__(self, told: tuple[bytes, bytes], *, idle: float = 0.0) -> None:
        self.ready = False
        mine, other = socket.socketpair()
        with other:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _START, json.dumps(_search_path()), str(other.fileno()), str(idle)],
                stdin=subprocess.DEVNULL,
                pass_fds=[other.fileno()],
                start_new_session=True,
                env={**os.environ, **_ONE_THREAD},
            )
        self.pid = self._process.pid
        self.connection = Connection(mine.detach())
        for message in told:
            self.send(message)

    def send(self, content: bytes) -> None:
        """Give it the argument of a task, pickled; one that is dead is noticed when it is listened to."""
        with suppress(OSError):
            self.connection.send_bytes(content)

    def hear(self) -> bytes | None:
        """What it says, pickled; None where it is dead."""
        try:
            return self.connection.recv_bytes()
        except (EOFError, OSError):
            return None

    def alive(self) -> bool:
        """Whether it is there."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End it and what it has started, while another thread may be listening to it."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def end(self) -> None:
        """The same, and let go of it."""
        self.kill()
        self.connection.close()
        self._process.wait()

    def epitaph(self) -> str:
        """How a worker that is dead, or about to be, ended: "SIGSEGV" or "exit status 1"."""
        try:
            words = _ended(self._process.wait(timeout=5.0))
        except subprocess.TimeoutExpired:
            words = "it closed its connection"
        self.end()
        return words


def _search_path() -> list[str]:
    return [os.path.abspath(part) for part in sys.path]


def _ended(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
