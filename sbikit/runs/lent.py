"""The workers of a run, which its stages use one after the other: who is lent them does not end them."""

from __future__ import annotations

from sbikit.workers.pool import Done, Lost, Pool, Task


class Lent(Pool):
    """A pool whose end is somebody else's affair.

    Args:
        pool: the pool.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.workers = pool.workers

    def give(self, task: Task, *, urgent: bool = False) -> None:
        """As the pool."""
        self._pool.give(task, urgent=urgent)

    def take(self, *, wait: bool = True) -> Done | Lost | None:
        """As the pool."""
        return self._pool.take(wait=wait)

    def forget(self) -> None:
        """As the pool."""
        self._pool.forget()

    def close(self) -> None:
        """Give them back: what waits is dropped."""
        self._pool.forget()
