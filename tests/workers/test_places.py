"""Words of `--workers` and `--cluster`: what they mean, and how others are refused."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from duties import make

from sbikit import OptionError, PluginError, QuietMonitor
from sbikit.workers.here import Here
from sbikit.workers.places import Place, open_pool, read_place
from sbikit.workers.pool import Recipe
from sbikit.workers.processes import Processes
from sbikit.workers.slurm import SlurmJobs

RECIPE = Recipe(make, (3,))

# Looked for and not imported: its import changes what interrupts do.
jobqueue = pytest.mark.skipif(find_spec("dask_jobqueue") is None, reason="dask-jobqueue is not installed")


def test_words_name_places() -> None:
    assert read_place() == Place()
    assert read_place(8) == Place(8)
    assert read_place(cluster="local:8") == Place(8, dask=True)
    for address in ("tcp://10.0.0.1:8786", "tls://login-1.example.org:8786", "tcp://[::1]:8786"):
        assert read_place(cluster=address) == Place(address=address, dask=True)


@pytest.mark.parametrize(
    "words",
    [
        *("local", "local:", "local:0", "local:two", "local:-1", "local:99999", "local:8 "),
        *("tcp:", "tcp://", "tcp://host", "tcp://host:port", "10.0.0.1:8786"),
        *("slurm", "slurm:", "pbs:jobs.yaml", "8", " "),
    ],
)
def test_words_that_name_no_cluster_are_refused(words: str) -> None:
    with pytest.raises(OptionError, match="names no cluster") as caught:
        read_place(cluster=words)
    error = caught.value
    assert (error.where, error.got) == ("--cluster", words)
    assert "local:N" in error.expected
    assert "--" in error.fix


@pytest.mark.parametrize("workers", [0, -1, 5000])
def test_numbers_of_workers_that_cannot_be_are_refused(workers: int) -> None:
    with pytest.raises(OptionError, match="so many workers") as caught:
        read_place(workers)
    assert caught.value.got == str(workers)


def test_workers_and_a_cluster_at_once_are_refused() -> None:
    with pytest.raises(OptionError, match="at the same time"):
        read_place(2, "local:2")


def test_one_worker_is_this_process_and_more_are_others() -> None:
    with open_pool(read_place(), RECIPE, QuietMonitor()) as pool:
        assert isinstance(pool, Here)
    with open_pool(read_place(3), RECIPE, QuietMonitor()) as pool:
        assert isinstance(pool, Processes)
        assert pool.workers == 3


def test_a_scheduler_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("sbikit.workers.cluster._ANSWERS", 0.5)
    with pytest.raises(OptionError, match="No dask scheduler answers") as caught:
        open_pool(read_place(cluster="tcp://127.0.0.1:9"), RECIPE, QuietMonitor())
    assert caught.value.expected == "one at tcp://127.0.0.1:9"


@pytest.mark.parametrize(
    ("words", "module", "extra"),
    [("local:2", "distributed", "dask"), ("slurm:{}", "dask_jobqueue", "slurm")],
)
def test_a_missing_extra_says_what_to_install(
    words: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("distributed")
    jobs = tmp_path / "jobs.yaml"
    jobs.write_text("jobs: 1\nmemory: 1GB\n")
    place = read_place(cluster=words.format(jobs))
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(PluginError, match=f"'{module}', which is not installed") as caught:
        open_pool(place, RECIPE, QuietMonitor())
    assert f"pip install 'sbikit[{extra}]'" in caught.value.fix


@jobqueue
def test_jobs_of_slurm_leave_interrupts_what_they_were(tmp_path: Path) -> None:
    code = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # which what runs behind a shell does not hear
from sbikit import OptionError
from sbikit.workers.slurm import SlurmJobs, start_slurm
try:
    start_slurm(SlurmJobs(jobs=1, memory="1GB"))
except OptionError as error:
    assert "sbatch" in error.expected
assert "dask_jobqueue.runner" in sys.modules
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
"""
    here = {**os.environ, "PATH": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=here, timeout=120)


# --- the file of the jobs -------------------------------------------------------------------

JOBS = """jobs: 8
workers: 32
memory: 64GB
time: "1-02:00:00"
partition: cpu
directives:
  - --constraint=cpu
before: [module load python]
"""


def test_the_file_of_jobs_says_what_workers_there_are(tmp_path: Path) -> None:
    path = tmp_path / "jobs.yaml"
    path.write_text(JOBS)
    place = read_place(cluster=f"slurm:{path}")
    assert place.workers == 256
    assert place.slurm == SlurmJobs(
        jobs=8,
        workers=32,
        memory="64GB",
        time="1-02:00:00",
        partition="cpu",
        directives=("--constraint=cpu",),
        before=("module load python",),
    )


@pytest.mark.parametrize(
    ("old", "new", "place", "expected"),
    [
        ("jobs: 8", "jobs: 0", "1:7", "at least 1"),
        ("workers: 32", "workers: many", "2:10", "a whole number"),
        ("memory: 64GB", "memory: 64", "3:9", "text"),
        ("memory: 64GB", "memory: lots", "3:9", "matching"),
        ("partition: cpu", "queue: cpu", "5:8", ""),
        ('time: "1-02:00:00"', "time: forever", "4:7", "matching"),
        ("jobs: 8", "job: 8", "9:1", "jobs, workers, memory"),
    ],
)
def test_a_wrong_file_of_jobs_is_told_with_the_place(
    old: str, new: str, place: str, expected: str, tmp_path: Path
) -> None:
    path = tmp_path / "jobs.yaml"
    path.write_text(JOBS.replace(old, new))
    with pytest.raises(OptionError) as caught:
        read_place(cluster=f"slurm:{path}")
    assert f"{path}:{place}" in str(caught.value)
    assert expected in caught.value.expected


def test_a_missing_file_of_jobs_is_told(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="cannot be read"):
        read_place(cluster=f"slurm:{tmp_path / 'none.yaml'}")


@jobqueue
def test_slurm_that_is_not_here_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "jobs.yaml"
    path.write_text(JOBS)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OptionError, match="Slurm is not here") as caught:
        open_pool(read_place(cluster=f"slurm:{path}"), RECIPE, QuietMonitor())
    assert caught.value.got == "no sbatch and no scancel"
