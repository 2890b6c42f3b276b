"""What a worker process does: make its function once, then one task after the other.

It ends itself, and whatever the function has started, when the process that started it is gone.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import process, spawn
from multiprocessing.connection import Connection
from queue import Empty, SimpleQueue
from typing import Any

READY, UNMADE, DONE, RAISED = "ready", "unmade", "done", "raised"
"""What a worker says, with what belongs to it."""


def serve(descriptor: int, idle: float) -> None:
    """Serve the other end of a socket until it is closed.

    Args:
        descriptor: of the socket; it brings how `__main__` is found, the recipe, then arguments.
        idle: end where no argument comes for so many seconds; 0: never.
    """
    connection = Connection(descriptor)
    messages: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_listen, args=(connection, messages), daemon=True).start()
    try:
        function = _made(messages.get(), messages.get())
    except BaseException as error:
        connection.send((UNMADE, portable(error)))
        return
    connection.send((READY, None))
    with suppress(Empty):
        while True:
            connection.send_bytes(_answer(function, messages.get(timeout=idle or None)))


def _listen(connection: Connection, messages: SimpleQueue[bytes]) -> None:
    """Messages are read as they come, so that the other side never waits, and learns when it is gone."""
    try:
        while True:
            messages.put(connection.recv_bytes())
    except (EOFError, OSError):
        os.killpg(0, signal.SIGKILL)


def _made(main: bytes, recipe: bytes) -> Callable[[Any], Any]:
    if main:
        # As multiprocessing does for its own: a script without a guard must not start workers of workers.
        process.current_process()._inheriting = True  # type: ignore[attr-defined]
        try:
            spawn.prepare(pickle.loads(main))
        finally:
            del process.current_process()._inheriting  # type: ignore[attr-defined]
    make, arguments = pickle.loads(recipe)
    function: Callable[[Any], Any] = make(*arguments)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
    return function


def _answer(function: Callable[[Any], Any], argument: bytes) -> bytes:
    try:
        return pickle.dumps((DONE, function(pickle.loads(argument))), protocol=5)
    except Exception as error:
        return pickle.dumps((RAISED, portable(error)))


def portable(error: BaseException) -> Exception:
    """The error, or one that says the same where it cannot be sent to another process."""
    words = "".join(traceback.format_exception(error)).rstrip()
    try:
        copy = pickle.loads(pickle.dumps(error))
    except Exception:
        copy = None
    if not isinstance(copy, Exception):
        return RuntimeError(f"a worker process raised\n{words}")
    copy.add_note(f"in a worker process:\n{words}")
    return copy
