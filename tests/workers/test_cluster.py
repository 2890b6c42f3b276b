"""A dask cluster on this machine as a pool: as the processes of `test_processes`."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from duties import gone, make, nobody_left, read, until

from sbikit import QuietMonitor
from sbikit.simulations import attempt, simulate_all, simulating
from sbikit.testing import GaussianVector
from sbikit.workers.places import open_pool, read_place
from sbikit.workers.pool import Done, Lost, Pool, Recipe, Task

pytest.importorskip("distributed")

HERE = read_place(cluster="local:2")


class Hearing(QuietMonitor):
    def __init__(self) -> None:
        self.heard: list[str] = []

    def say(self, text: str) -> None:
        self.heard.append(text)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Of a cluster of two workers that runs already."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def pool(address: str) -> Iterator[Pool]:
    with open_pool(read_place(cluster=address), Recipe(make, (3,)), QuietMonitor()) as found:
        yield found


def test_every_task_has_its_result_from_a_child_with_one_thread(pool: Pool) -> None:
    found = list(pool.run(Task(x, ("multiply", x)) for x in range(50)))
    assert {one.task.key: one.value for one in found if isinstance(one, Done)} == {
        x: 3 * x for x in range(50)
    }
    (one,) = pool.run([Task("threads", ("threads",))])
    assert isinstance(one, Done)
    assert one.value == "1"
    assert (pool.workers, pool.room) == (2, 4)


def test_what_a_task_raises_is_raised_here(pool: Pool) -> None:
    with pytest.raises(ValueError, match="no such thing"):
        list(pool.run([Task(0, ("refuse", "no such thing"))]))


def test_limits_and_deaths(pool: Pool, tmp_path: Path) -> None:
    with nobody_left(tmp_path / "hangs"):
        pool.give(Task("hangs", ("hang", str(tmp_path / "hangs")), seconds=1.0))
        pool.give(Task("crash", ("crash",)))
        pool.give(Task("once", ("end_once", str(tmp_path / "mark"))))
        pool.give(Task("fine", ("multiply", 1), seconds=60.0), urgent=True)
        found = {one.task.key: one for one in (pool.take() for _ in range(4)) if one is not None}
    told = {key: (one.why, one.words) for key, one in found.items() if isinstance(one, Lost)}
    assert told == {"hangs": ("timeout", "longer than 1 s"), "crash": ("died", "SIGSEGV")}
    assert {key: one.value for key, one in found.items() if isinstance(one, Done)} == {
        "once": "done",
        "fine": 3,
    }
    assert pool.take() is None


def test_closing_ends_children_on_a_cluster_of_somebody_else(address: str, tmp_path: Path) -> None:
    with (
        nobody_left(tmp_path / "0", tmp_path / "1"),
        open_pool(read_place(cluster=address), Recipe(make, (3,)), QuietMonitor()) as pool,
    ):
        for i in range(2):
            pool.give(Task(i, ("hang", str(tmp_path / str(i)))))
        for i in range(2):
            read(tmp_path / str(i))


@pytest.mark.slow
def test_a_cluster_here_makes_the_same_draws_though_a_worker_is_killed(tmp_path: Path) -> None:
    simulator, monitor = GaussianVector(), Hearing()
    with open_pool(HERE, simulating(simulator), monitor) as pool:
        coming = simulate_all(simulator, 0, "training", [(i, 5) for i in range(0, 200, 5)], pool)
        found = [next(coming)]
        victim = workers_of(pool)[0]
        os.kill(victim, signal.SIGKILL)
        found += coming
        until(lambda: gone(victim))
    assert "dask" in monitor.heard[0]
    assert len(found) == 40
    for one in found:
        expected = attempt(simulator, 0, "training", one.first, 5)
        assert torch.equal(one.outputs["x"], expected.outputs["x"])
        assert torch.equal(one.parameters["theta"], expected.parameters["theta"])


def workers_of(pool: Pool) -> list[int]:
    """Process numbers of dask's workers."""
    return list(pool._client.run(os.getpid).values())  # type: ignore[attr-defined]
