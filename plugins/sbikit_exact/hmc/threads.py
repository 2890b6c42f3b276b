"""Several batches at once, each on a thread of its own; the first that fails ends all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

import torch

from sbikit import one_thread

T = TypeVar("T")


class StoppedError(Exception):
    """Another batch failed, or the user wants no more."""


def at_once(works: Sequence[Callable[[threading.Event], T]], workers: int) -> list[T]:
    """What the works return, as many at a time as there are workers, each on one thread of torch.

    Args:
        works: what to do; each raises `StoppedError` soon after the event that it is given is set.
        workers: how many threads.
    """
    stopped = threading.Event()
    # One for the caller, too, while it waits: threads that are yet to come have as many as were set last.
    with one_thread(), ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        futures = [pool.submit(work, stopped) for work in works]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            stopped.set()
    for future in futures:
        cause = future.exception()
        if cause is not None and not isinstance(cause, StoppedError):
            raise cause
    return [future.result() for future in futures]


def one_at_a_time(advance: Callable[[int], None]) -> Callable[[int], None]:
    """The same, for threads: no monitor need be ready for several at once."""
    lock = threading.Lock()

    def told(done: int) -> None:
        with lock:
            advance(done)

    return told
