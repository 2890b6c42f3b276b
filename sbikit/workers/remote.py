"""What runs on a dask worker: a task, in a child process that can be ended.

The dask worker itself imports and unpickles nothing of the task: bytes go to the child and come back.
"""

from __future__ import annotations

import pickle
import threading
import time
from typing import Any

from sbikit.workers.child import READY
from sbikit.workers.worker import Worker

_TOLD = 60.0  # seconds in which a dask worker should learn of a pool
_IDLE = 300.0  # seconds after which a child that nobody needs any more ends itself

Told = tuple[bytes, bytes]
Answer = tuple[str, Any, float]
""""said" and what the child said, or "timeout" or "died" and words; with the seconds that it took."""


class _Children:
    """Child processes of this dask worker, by the pool that they belong to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told: dict[str, Told] = {}
        self._heard = threading.Condition(self._lock)
        self._idle: dict[str, list[Worker]] = {}
        self._all: dict[str, list[Worker]] = {}

    def remember(self, pool: str, told: Told) -> None:
        with self._heard:
            self._told[pool] = told
            self._heard.notify_all()

    def borrow(self, pool: str) -> Worker:
        with self._heard:
            if not self._heard.wait_for(lambda: pool in self._told, _TOLD):
                raise RuntimeError(f"this dask worker was never told of {pool}")
            told = self._told[pool]
            idle = self._idle.setdefault(pool, [])
            while idle:
                child = idle.pop()
                if child.alive():
                    return child
                self._drop(pool, child)
            child = Worker(told, idle=_IDLE)
            self._all.setdefault(pool, []).append(child)
            return child

    def give_back(self, pool: str, child: Worker) -> None:
        with self._lock:
            if child in self._all.get(pool, []):
                self._idle.setdefault(pool, []).append(child)

    def end(self, pool: str, child: Worker) -> None:
        with self._lock:
            self._drop(pool, child)

    def end_all(self, pool: str) -> None:
        with self._lock:
            self._told.pop(pool, None)
            idle = self._idle.pop(pool, [])
            for child in self._all.pop(pool, []):
                if child in idle:
                    child.end()
                else:  # a thread listens to it, and lets go of it
                    child.kill()

    def _drop(self, pool: str, child: Worker) -> None:
        child.end()
        if child in self._all.get(pool, []):
            self._all[pool].remove(child)


_children = _Children()


def run_task(pool: str, argument: bytes, seconds: float | None) -> Answer:
    """Run one task of a pool in a child process."""
    child = _children.borrow(pool)
    if not child.ready:
        first = child.hear()
        if first is None:
            return _died(pool, child, 0.0)
        if pickle.loads(first)[0] != READY:
            _children.end(pool, child)
            return "said", first, 0.0
        child.ready = True
    began = time.monotonic()
    child.send(argument)
    if not child.connection.poll(seconds):
        _children.end(pool, child)
        return "timeout", f"longer than {seconds:g} s", time.monotonic() - began
    said = child.hear()
    took = time.monotonic() - began
    if said is None:
        return _died(pool, child, took)
    _children.give_back(pool, child)
    return "said", said, took


def _died(pool: str, child: Worker, took: float) -> Answer:
    words = child.epitaph()
    _children.end(pool, child)
    return "died", words, took


def remember(pool: str, told: Told) -> None:
    """What children of a pool are told on this dask worker."""
    _children.remember(pool, told)


def forget(pool: str) -> None:
    """End all child processes of a pool on this dask worker, whatever they do."""
    _children.end_all(pool)
