"""A dask cluster as a pool: one on this machine, one in jobs of Slurm, or one that runs already.

Dask brings tasks to workers and results back, and gives tasks of workers that are gone to others. Each task
runs in a child process of its dask worker, with one thread, and is ended when it outlasts its limit.
"""

from __future__ import annotations

import logging
import pickle
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import count
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from sbikit.problem.errors import DeviceError, OptionError, PluginError
from sbikit.workers.child import DONE
from sbikit.workers.pool import Done, Lost, Pool, Recipe, Task
from sbikit.workers.remote import end_children, run_task
from sbikit.workers.slurm import start_slurm
from sbikit.workers.worker import packed

if TYPE_CHECKING:
    from sbikit.roles.monitor import Monitor
    from sbikit.workers.places import Place

_ANSWERS = 10.0  # seconds in which a scheduler that runs should answer


def open_cluster(place: Place, recipe: Recipe, monitor: Monitor) -> Cluster:
    """Start the cluster of a place, or find it.

    Raises:
        PluginError: dask is not installed, or the recipe cannot be sent.
        OptionError: no scheduler answers, or Slurm is not here.
    """
    try:
        from distributed import Client, LocalCluster
    except ModuleNotFoundError as error:
        raise PluginError(
            f"A cluster needs {error.name!r}, which is not installed.",
            where="--cluster",
            fix="pip install 'sbikit[dask]'; for processes of this machine --workers 8 needs nothing more",
        ) from error
    told = packed(recipe)
    if place.address:
        return Cluster(_found(place.address, Client), None, told, monitor, place.workers)
    if place.slurm is not None:
        cluster = start_slurm(place.slurm)
        monitor.say(f"{place.slurm.jobs} jobs of {place.slurm.workers} workers are queued in Slurm")
    else:
        cluster = LocalCluster(
            n_workers=place.workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.ERROR,
        )
    return Cluster(Client(cluster), cluster, told, monitor, place.workers)


def _found(address: str, client: Any) -> Any:
    try:
        return client(address, timeout=_ANSWERS)
    except (OSError, TimeoutError) as error:
        raise OptionError(
            "No dask scheduler answers.",
            where="--cluster",
            expected=f"one at {address}",
            got=f"{type(error).__name__}: {error}",
            fix="start one with `dask scheduler`, or mend the address",
        ) from error


@dataclass
class _Given:
    task: Task
    generation: int
    deaths: int = 0


class Cluster(Pool):
    """The workers of a dask cluster.

    Args:
        client: dask's.
        cluster: dask's, which ends with the pool; None where it is somebody else's.
        told: what children are told.
        monitor: hears of the dashboard.
        workers: how many are expected.
    """

    def __init__(
        self, client: Any, cluster: Any, told: tuple[bytes, bytes], monitor: Monitor, workers: int
    ) -> None:
        self._client, self._cluster, self._expected = client, cluster, workers
        self._name = f"sbikit-{uuid4().hex}"
        self._told = client.submit(_same, told, key=f"{self._name}-told", pure=False)
        self._numbers = count()
        self._under_way: dict[Any, _Given] = {}
        self._ended: SimpleQueue[Any] = SimpleQueue()
        self._generation = 0
        if find_spec("bokeh") is not None:
            monitor.say(f"dask's dashboard is at {client.dashboard_link}")
        else:
            monitor.say(
                f"dask's scheduler is {client.scheduler.address}; for its dashboard, pip install bokeh"
            )

    @property
    def workers(self) -> int:  # type: ignore[override]
        """How many there are, or are to come."""
        return max(self._expected, sum(self._client.nthreads().values()))

    def give(self, task: Task, *, urgent: bool = False) -> None:
        """Add a task to those that wait, or put it before them."""
        self._submit(_Given(task, self._generation), 1 if urgent else 0)

    def take(self, *, wait: bool = True) -> Done | Lost | None:
        """A result; None where there is none yet and `wait` is false, or nothing was given."""
        while self._under_way:
            try:
                future = self._ended.get(block=wait)
            except Empty:
                return None
            given = self._under_way.pop(future.key, None)
            if given is not None and (result := self._result(given, future)) is not None:
                return result
        return None

    def forget(self) -> None:
        """Drop what waits, and the results of what runs."""
        self._generation += 1
        self._under_way.clear()

    def close(self) -> None:
        """End all that runs, and the cluster where it is ours."""
        self.forget()
        if self._client.status == "running":  # else it would wait for a scheduler that is gone
            with suppress(Exception):  # a worker that is gone needs no ending
                self._client.run(end_children, self._name, on_error="ignore")
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()

    def _submit(self, given: _Given, priority: int) -> None:
        future = self._client.submit(
            run_task,
            self._name,
            self._told,
            pickle.dumps(given.task.argument, protocol=5),
            given.task.seconds,
            key=f"{self._name}-{next(self._numbers)}",
            pure=False,
            priority=priority,
        )
        self._under_way[future.key] = given
        future.add_done_callback(self._ended.put)

    def _result(self, given: _Given, future: Any) -> Done | Lost | None:
        """None where the task is given again."""
        from distributed.scheduler import KilledWorker

        try:
            kind, said, took = future.result()
        except KilledWorker as error:
            return Lost(given.task, "died", f"its workers end: {error}", 0.0)
        except (CancelledError, OSError) as error:
            raise DeviceError(
                "The dask cluster is gone.",
                where="--cluster",
                got=f"{type(error).__name__}: {error}",
                fix="start it again and repeat the command: what is kept is not done again",
            ) from error
        if kind == "said":
            word, value = pickle.loads(said)
            if word != DONE:
                raise value
            return Done(given.task, value)
        if kind == "timeout":
            return Lost(given.task, "timeout", said, took)
        given.deaths += 1
        if given.deaths >= given.task.lives:
            return Lost(given.task, "died", said, took)
        self._submit(given, 1)
        return None


def _same(told: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    return told
