"""Whoever simulates: the same draws to the bit, in whatever order, whatever dies on the way."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from failing import Crashes, Hangs, NotFinite, SleepsTwentyMilliseconds
from numpy.typing import NDArray

from sbikit import Options, PluginError, QuietMonitor, Simulator, Values
from sbikit.simulations import Attempts, attempt, simulate_all, simulating
from sbikit.testing import GaussianField, GaussianVector
from sbikit.workers import open_pool, read_place
from sbikit.workers.processes import Processes

TASKS = [(0, 7), (20, 1), (7, 13), (21, 11)]


def same(found: list[Attempts], simulator: Simulator, tasks: list[tuple[int, int]]) -> None:
    """They are what one call in this process makes of each range, but for the time that it took."""
    assert sorted(one.first for one in found) == sorted(first for first, _ in tasks)
    counts = dict(tasks)
    for one in found:
        expected = attempt(simulator, 0, "training", one.first, counts[one.first])
        for mine, right in ((one.parameters, expected.parameters), (one.outputs, expected.outputs)):
            assert set(mine) == set(right)
            assert all(torch.equal(mine[key], right[key]) for key in right)
            assert all(value.is_contiguous() for value in mine.values())
        assert np.array_equal(one.seeds, expected.seeds)
        assert one.failures == expected.failures
        assert one.seconds.shape == (counts[one.first],)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_make_the_same_draws_to_the_bit(workers: int) -> None:
    simulator = NotFinite()
    with open_pool(read_place(workers), simulating(simulator), QuietMonitor()) as pool:
        same(list(simulate_all(simulator, 0, "training", TASKS, pool)), simulator, TASKS)


def test_a_plugin_is_made_anew_from_its_class_and_options() -> None:
    simulator = GaussianField(GaussianField.Options(size=8))
    with Processes(simulating(simulator, by_options=True), 1) as pool:
        same(list(simulate_all(simulator, 0, "training", TASKS[:2], pool)), simulator, TASKS[:2])
    assert isinstance(simulator.options, Options)


def test_a_simulator_that_cannot_be_sent_is_refused_before_any_work() -> None:
    simulator = GaussianVector()
    simulator.lock = threading.Lock()  # type: ignore[attr-defined]
    with pytest.raises(PluginError, match="cannot be told how to make its function") as caught:
        Processes(simulating(simulator), 1)
    assert caught.value.where == "GaussianVector"


def test_ranges_are_read_as_workers_become_free() -> None:
    simulator, asked = GaussianVector(), 0

    def tasks() -> Iterator[tuple[int, int]]:
        nonlocal asked
        for first in range(0, 200, 2):
            asked += 1
            yield first, 2

    with open_pool(read_place(), simulating(simulator), QuietMonitor()) as pool:
        for taken, _ in enumerate(simulate_all(simulator, 0, "training", tasks(), pool)):
            assert asked <= taken + pool.room


def test_a_source_that_ends_early_leaves_the_pool_ready() -> None:
    simulator = GaussianVector()
    with Processes(simulating(simulator), 1) as pool:
        some = simulate_all(simulator, 0, "training", [(i, 5) for i in range(0, 500, 5)], pool)
        next(some)
        some.close()  # type: ignore[attr-defined]
        same(list(simulate_all(simulator, 0, "training", TASKS, pool)), simulator, TASKS)


class Waits(GaussianVector):
    """Says who simulates, and waits to be let go."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.folder = folder

    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> Values:
        (Path(self.folder) / str(os.getpid())).touch()
        while not (Path(self.folder) / "go").exists():
            time.sleep(0.01)
        return super().simulate(parameters, seeds=seeds)


def test_draws_of_a_killed_worker_are_made_again(tmp_path: Path) -> None:
    simulator = Waits(str(tmp_path))
    with Processes(simulating(simulator), 1) as pool:
        coming = simulate_all(simulator, 0, "training", [(0, 4)], pool)
        found, pids = kill_the_first(coming, tmp_path)
    same(found, GaussianVector(), [(0, 4)])
    assert len(pids) == 2


def kill_the_first(coming: Iterator[Attempts], folder: Path) -> tuple[list[Attempts], list[str]]:
    """Kill the worker that simulates, in another thread; then let the next one go."""

    def run() -> None:
        while not (pids := [path.name for path in folder.iterdir()]):
            time.sleep(0.01)
        os.kill(int(pids[0]), signal.SIGKILL)
        while len(list(folder.iterdir())) < 2:
            time.sleep(0.01)
        (folder / "go").touch()

    killer = threading.Thread(target=run)
    killer.start()
    found = list(coming)
    killer.join()
    return found, [path.name for path in folder.iterdir() if path.name != "go"]


@pytest.mark.slow
def test_only_the_draws_that_hang_or_crash_fail() -> None:
    """One of the four has a parameter a that is too large."""
    for simulator, timeout, kind in ((Hangs(), 1.0, "timeout"), (Crashes(), None, "raised")):
        with Processes(simulating(simulator), 1) as pool:
            (found,) = simulate_all(simulator, 0, "training", [(2, 4)], pool, timeout=timeout)
        plain = attempt(GaussianVector(), 0, "training", 2, 4)
        bad = (plain.parameters["theta"][:, 0] > 1.5).nonzero().flatten().tolist()
        assert {row: failure.kind for row, failure in found.failures.items()} == dict.fromkeys(bad, kind)
        assert len(bad) == 1
        assert torch.equal(found.parameters["theta"], plain.parameters["theta"])
        good = [row for row in range(4) if row not in bad]
        assert torch.equal(found.outputs["x"][good], plain.outputs["x"][good])
        assert not found.outputs["x"][bad].any()
        error = found.failures[bad[0]].error
        assert error.where.startswith(f"draw {2 + bad[0]} (a=")


@pytest.mark.slow
def test_two_workers_simulate_nearly_all_the_time() -> None:
    """A draw sleeps 20 ms. Once both are at work, all time but 5 % is the simulator's own."""
    simulator = SleepsTwentyMilliseconds()
    tasks = [(first, 10) for first in range(0, 600, 10)]
    with Processes(simulating(simulator), 2) as pool:
        coming = simulate_all(simulator, 0, "training", tasks, pool)
        for _ in range(10):
            next(coming)
        began, busy = time.monotonic(), 0.0
        for found in coming:
            busy += float(found.seconds.sum())
        elapsed = time.monotonic() - began
    assert busy > 0.95 * 2 * elapsed
