"""Processes of this machine as a pool: one that outlasts its limit or dies is replaced.

A thread of the pool speaks to the workers, so that they get their next task and are ended in time whatever
the one that takes results is doing.
"""

from __future__ import annotations

import pickle
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe, wait
from queue import Empty, SimpleQueue

from sbikit.problem.errors import PluginError
from sbikit.workers.child import RAISED, READY, UNMADE
from sbikit.workers.pool import Done, Lost, Pool, Recipe, Task
from sbikit.workers.worker import Worker, packed

_STILLBORN = 3  # workers that die before they are ready, with nothing done in between
_SHORT = 1.0  # seconds: a worker whose tasks are shorter has its next one waiting, and is never idle


@dataclass
class _Given:
    """A task, the generation that it belongs to, and how many workers have died of it."""

    task: Task
    generation: int
    deaths: int = 0


@dataclass
class _Crew:
    """A worker and what it has been given, the first of which it works at."""

    worker: Worker
    given: deque[_Given] = field(default_factory=deque)
    began: float = 0.0
    took: float | None = None

    def most(self) -> int:
        return 2 if self.took is not None and self.took < _SHORT else 1


class Processes(Pool):
    """Worker processes, started when there is something to do.

    Args:
        recipe: how each makes its function.
        workers: how many.

    Raises:
        PluginError: the recipe cannot be sent to another process.
    """

    def __init__(self, recipe: Recipe, workers: int) -> None:
        self.workers = workers
        self._told = packed(recipe)
        self._waiting: deque[_Given] = deque()
        self._results: SimpleQueue[tuple[int, Done | Lost | BaseException]] = SimpleQueue()
        self._generation, self._owed, self._stillborn = 0, 0, 0
        self._crew: list[_Crew] = []
        self._closing = False
        self._fatal: BaseException | None = None
        self._hears, self._wake = Pipe(duplex=False)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def give(self, task: Task, *, urgent: bool = False) -> None:
        """Add a task to those that wait, or put it before them."""
        if self._fatal is not None:
            raise self._fatal
        given = _Given(task, self._generation)
        with self._lock:
            (self._waiting.appendleft if urgent else self._waiting.append)(given)
        self._owed += 1
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="sbikit workers", daemon=True)
            self._thread.start()
        self._wake.send_bytes(b".")

    def take(self, *, wait: bool = True) -> Done | Lost | None:
        """A result; None where there is none yet and `wait` is false, or nothing was given."""
        while self._owed:
            try:
                generation, result = self._results.get(block=wait)
            except Empty:
                return None
            if generation == _ALL and isinstance(result, BaseException):
                self._fatal, self._owed = result, 0
                raise result
            if generation != self._generation:
                continue
            self._owed -= 1
            if isinstance(result, BaseException):
                raise result
            return result
        return None

    def forget(self) -> None:
        """Drop what waits, and the results of what runs."""
        with self._lock:
            self._waiting.clear()
            self._generation += 1
        self._owed = 0

    def close(self) -> None:
        """End all workers, whatever they do."""
        self.forget()
        self._closing = True
        if self._thread is not None:
            self._wake.send_bytes(b".")
            self._thread.join()
            self._thread = None
        self._hears.close()
        self._wake.close()

    # --- in the pool's thread ---------------------------------------------------------------

    def _serve(self) -> None:
        try:
            while not self._closing:
                self._hand_out()
                by_connection = {crew.worker.connection: crew for crew in self._crew}
                for ready in wait([self._hears, *by_connection], self._until_next_limit()):
                    if ready is self._hears:
                        self._hears.recv_bytes()
                    elif isinstance(ready, Connection):
                        self._hear(by_connection[ready])
                self._end_late()
        except Exception as error:
            self._results.put((_ALL, error))
        finally:
            for crew in self._crew:
                crew.worker.end()
            self._crew = []

    def _hand_out(self) -> None:
        """Give what waits to idle workers, then to those whose tasks are short; start workers."""
        for most in (1, 2):
            for crew in self._crew:
                while crew.worker.ready and len(crew.given) < min(most, crew.most()):
                    given = self._next()
                    if given is None:
                        return
                    if not crew.given:
                        crew.began = time.monotonic()
                    crew.given.append(given)
                    crew.worker.send(pickle.dumps(given.task.argument, protocol=5))
        starting = sum(not crew.worker.ready for crew in self._crew)
        for _ in range(min(self.workers - len(self._crew), len(self._waiting) - starting)):
            self._crew.append(_Crew(Worker(self._told)))

    def _next(self) -> _Given | None:
        with self._lock:
            return self._waiting.popleft() if self._waiting else None

    def _hear(self, crew: _Crew) -> None:
        said = crew.worker.hear()
        if said is None:
            self._bury(crew)
            return
        kind, value = pickle.loads(said)
        if kind == UNMADE:
            raise value
        if kind == READY:
            crew.worker.ready, self._stillborn = True, 0
            return
        given, self._stillborn = crew.given.popleft(), 0
        now = time.monotonic()
        crew.began, crew.took = now, now - crew.began
        self._report(given, value if kind == RAISED else Done(given.task, value))

    def _report(self, given: _Given, result: Done | Lost | BaseException) -> None:
        self._results.put((given.generation, result))

    def _bury(self, crew: _Crew) -> None:
        """A worker died of what it worked at, or before it began."""
        self._crew.remove(crew)
        words = crew.worker.epitaph()
        if not crew.worker.ready:
            self._stillborn += 1
            if self._stillborn >= _STILLBORN:
                raise PluginError(
                    "Worker processes die before they are ready.",
                    where="workers",
                    got=words,
                    fix="look at what they print; or do without workers",
                )
        elif crew.given:
            given = crew.given.popleft()
            given.deaths += 1
            if given.deaths < given.task.lives:
                crew.given.appendleft(given)
            else:
                self._report(given, Lost(given.task, "died", words, time.monotonic() - crew.began))
        self._give_back(crew)

    def _give_back(self, crew: _Crew) -> None:
        with self._lock:
            for given in reversed(crew.given):
                if given.generation == self._generation:
                    self._waiting.appendleft(given)

    def _end_late(self) -> None:
        """End workers whose task outlasts its limit, unless they have just said something."""
        now = time.monotonic()
        for crew in list(self._crew):
            left = _left(crew, now)
            if left is None or left > 0.0 or crew.worker.connection.poll():
                continue
            self._crew.remove(crew)
            crew.worker.end()
            given = crew.given.popleft()
            words = f"longer than {given.task.seconds:g} s"
            self._report(given, Lost(given.task, "timeout", words, now - crew.began))
            self._give_back(crew)

    def _until_next_limit(self) -> float | None:
        now = time.monotonic()
        left = [one for crew in self._crew if (one := _left(crew, now)) is not None]
        return max(min(left), 0.0) if left else None


_ALL = -1  # the generation of what ends the pool


def _left(crew: _Crew, now: float) -> float | None:
    """Seconds until the limit of what a worker works at; None where it has none."""
    if not crew.given or crew.given[0].task.seconds is None:
        return None
    return crew.began + crew.given[0].task.seconds - now
