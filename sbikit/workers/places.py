"""Where tasks are to be run, from the words of `--workers` and `--cluster`; and the pool of workers there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sbikit.problem.errors import OptionError
from sbikit.workers.here import Here
from sbikit.workers.pool import Pool, Recipe

if TYPE_CHECKING:
    from sbikit.roles.monitor import Monitor
    from sbikit.workers.slurm import SlurmJobs

MOST_WORKERS = 4096


@dataclass(frozen=True)
class Place:
    """Where tasks are run.

    Args:
        workers: processes of this machine, 1 for this process alone; or those that a dask cluster here has.
        address: of a dask scheduler that runs already, "" for none.
        slurm: the jobs of a dask cluster on Slurm, if it is that.
        dask: whether the workers are those of a dask cluster.
    """

    workers: int = 1
    address: str = ""
    slurm: SlurmJobs | None = None
    dask: bool = False


def read_place(workers: int = 1, cluster: str = "", *, where: str = "--cluster") -> Place:
    """The place that the words name.

    Args:
        workers: how many processes of this machine.
        cluster: "" for none, "local:8", "tcp://HOST:PORT" or "slurm:FILE.yaml".
        where: the option that the cluster comes from, for messages.

    Raises:
        OptionError: the words name no place, or the file cannot be used.
    """
    if not 1 <= workers <= MOST_WORKERS:
        raise OptionError(
            "There cannot be so many workers.",
            where="workers",
            expected=f"a whole number, at least 1, at most {MOST_WORKERS}",
            got=str(workers),
        )
    if not cluster:
        return Place(workers)
    if workers > 1:
        raise OptionError(
            "Workers of this machine and a cluster are asked for at the same time.",
            where=where,
            expected="one of them",
            got=f"workers {workers}, cluster {cluster}",
            fix="leave out the workers: a cluster has its own number of them",
        )
    kind, _, rest = cluster.partition(":")
    if kind == "local" and re.fullmatch(r"[1-9]\d*", rest) and int(rest) <= MOST_WORKERS:
        return Place(int(rest), dask=True)
    if kind in ("tcp", "tls") and re.fullmatch(r"//[^/\s]+:\d{1,5}/?", rest):
        return Place(address=cluster, dask=True)
    if kind == "slurm" and rest:
        from sbikit.workers.slurm import read_slurm

        jobs = read_slurm(Path(rest))
        return Place(jobs.jobs * jobs.workers, slurm=jobs, dask=True)
    raise OptionError(
        "This names no cluster.",
        where=where,
        expected="local:N with N dask workers on this machine, tcp://HOST:PORT of a dask scheduler, "
        "or slurm:FILE.yaml",
        got=cluster,
        fix=_ADVICE.get(kind, "for processes of this machine --workers 8 is enough"),
    )


_ADVICE = {
    "local": "say how many, from 1 on: --cluster local:8",
    "tcp": "say where the scheduler listens, as `dask scheduler` prints it: --cluster tcp://10.0.0.1:8786",
    "tls": "say where the scheduler listens, as `dask scheduler` prints it: --cluster tls://10.0.0.1:8786",
    "slurm": "name the file of the jobs: --cluster slurm:jobs.yaml",
}


def open_pool(place: Place, recipe: Recipe, monitor: Monitor) -> Pool:
    """The workers at a place. Close the pool, or use it as a context manager.

    Args:
        place: where.
        recipe: how each makes its function.
        monitor: hears of the cluster and its dashboard.

    Raises:
        PluginError: dask, or what it needs for Slurm, is not installed.
        OptionError: the function cannot be sent to another process, or the cluster does not answer.
    """
    if place.dask:
        from sbikit.workers.cluster import open_cluster

        return open_cluster(place, recipe, monitor)
    if place.workers == 1:
        return Here(recipe)
    from sbikit.workers.processes import Processes

    return Processes(recipe, place.workers)
