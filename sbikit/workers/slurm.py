"""Workers in jobs of the batch system Slurm, by dask-jobqueue, from a small YAML file:

jobs: 8
workers: 32
memory: 64GB
time: "02:00:00"
partition: cpu
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from pydantic import Field

from sbikit.problem.errors import OptionError, PluginError
from sbikit.problem.option_errors import Path as Keys
from sbikit.problem.option_errors import check_options
from sbikit.problem.options import Options
from sbikit.storage.yaml_files import read_yaml


class SlurmJobs(Options):
    """The jobs that workers run in."""

    jobs: int = Field(ge=1, le=4096, description="how many jobs are kept in the queue or running")
    workers: int = Field(default=1, ge=1, le=4096, description="worker processes in a job, one core each")
    memory: str = Field(
        pattern=r"^[1-9]\d* ?[KMGT]i?B$", description="memory of a job, as 16GB; its workers share it"
    )
    time: str = Field(
        default="01:00:00",
        pattern=r"^(\d+-)?\d{1,3}:\d{2}:\d{2}$",
        description="time limit of a job; one that reaches it is followed by another",
    )
    partition: str | None = Field(default=None, min_length=1, description="where jobs are queued")
    account: str | None = Field(default=None, min_length=1, description="who pays")
    directives: tuple[str, ...] = Field(
        default=(), description="further options of sbatch, as --constraint=cpu"
    )
    before: tuple[str, ...] = Field(
        default=(), description="commands before the workers start, as `module load python`"
    )
    interface: str | None = Field(
        default=None, min_length=1, description="network interface by which workers are reached, as ib0"
    )
    python: str | None = Field(
        default=None, min_length=1, description="Python of the workers, if not the one that runs now"
    )
    logs: str | None = Field(
        default=None, min_length=1, description="folder for what jobs print; else it is lost"
    )


def read_slurm(path: Path) -> SlurmJobs:
    """Read the file of the jobs.

    Raises:
        OptionError: it cannot be read, or an option is missing, unknown, of the wrong type or out of range.
    """
    found = read_yaml(path)
    needed = [name for name, option in SlurmJobs.model_fields.items() if option.is_required()]
    if missing := [name for name in needed if name not in found.tree]:
        raise OptionError(
            f"The file of the jobs does not say {' and '.join(missing)}.",
            where=found.end,
            expected=", ".join(SlurmJobs.model_fields),
            got=", ".join(found.tree) or "an empty file",
            fix="such as jobs: 4, memory: 16GB",
        )

    def locate(keys: Keys) -> str:
        return found.origins.get(keys, found.end)

    return check_options(SlurmJobs, found.tree, locate=locate)


def start_slurm(jobs: SlurmJobs) -> Any:
    """A dask cluster whose workers run in jobs; a job that ends is followed by another.

    Raises:
        PluginError: dask-jobqueue is not installed.
        OptionError: Slurm's commands are not there, or sbatch refuses the job.
    """
    before = signal.getsignal(signal.SIGINT)
    try:
        from dask_jobqueue import SLURMCluster
    except ModuleNotFoundError as error:
        raise PluginError(
            f"Jobs of Slurm need {error.name!r}, which is not installed.",
            where="--cluster slurm:...",
            fix="pip install 'sbikit[slurm]'",
        ) from error
    finally:
        # dask_jobqueue.runner, which comes with it, makes an interrupt an exit with status 0.
        if signal.getsignal(signal.SIGINT) is not before:
            signal.signal(signal.SIGINT, before)
    _require_slurm()
    silent = [] if jobs.logs else ["--output=/dev/null"]  # else each job leaves a file where it is started
    cluster = SLURMCluster(
        cores=jobs.workers,
        processes=jobs.workers,
        memory=jobs.memory,
        walltime=jobs.time,
        queue=jobs.partition,
        account=jobs.account,
        job_extra_directives=[*silent, *jobs.directives],
        job_script_prologue=list(jobs.before),
        interface=jobs.interface,
        python=jobs.python,
        log_directory=jobs.logs,
        scheduler_options={"dashboard_address": "127.0.0.1:0"},
    )
    cluster.adapt(minimum_jobs=jobs.jobs, maximum_jobs=jobs.jobs)
    return cluster


def _require_slurm() -> None:
    from shutil import which

    if missing := [name for name in ("sbatch", "scancel") if which(name) is None]:
        raise OptionError(
            "Slurm is not here.",
            where="--cluster slurm:...",
            expected="its commands sbatch and scancel",
            got=f"no {' and no '.join(missing)}",
            fix="run this where jobs are submitted, a login node as a rule",
        )
