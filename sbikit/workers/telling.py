"""Every dask worker is told once how its children make their function, those that join later, too."""

from __future__ import annotations

from distributed import Worker, WorkerPlugin

from sbikit.workers.remote import Told, forget, remember


class Telling(WorkerPlugin):
    """While it is registered, the tasks of a pool can run; at its end their child processes end.

    A task could bring this along as its dependency, but dask would then send all tasks to the worker that has
    it, whatever that one is busy with.

    Args:
        pool: name of the pool.
        told: what children are told.
    """

    def __init__(self, pool: str, told: Told) -> None:
        self.name = pool
        self._told = told

    def setup(self, worker: Worker) -> None:
        """A worker begins."""
        del worker
        remember(self.name, self._told)

    def teardown(self, worker: Worker) -> None:
        """The pool is closed, or the worker."""
        del worker
        forget(self.name)
