"""Draws that fail, workers that are killed and jobs that are cancelled: the same good draws all the same."""

from __future__ import annotations

import math
import os
import random
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from _record import record

from _keeping.simulators import Failing, Traced
from sbikit import QuietMonitor
from sbikit.simulations import Attempts, Simulations, Store, Stored, attempt, simulate_all, simulating
from sbikit.simulations.keeping import Asked, keep
from sbikit.workers import open_pool, read_place

_IDENTITY = {"made by": "a benchmark"}


def failing(folder: Path, draws: int) -> None:
    """A simulator that fails below theta = -0.8: a tenth of U(-1, 1). The good draws are U(-0.8, 1)."""
    simulator, path = Failing(), folder / "failing.zarr"
    shutil.rmtree(path, ignore_errors=True)
    asked = Asked(path, simulator, _IDENTITY, 0, draws, most=0.15)
    place = read_place(workers=2)
    pool = open_pool(place, simulating(simulator, by_options=True), QuietMonitor())
    kept = keep(asked, lambda: pool, QuietMonitor())
    store = Store.open(path, simulator, _IDENTITY)
    theta = Stored(store, Simulations(simulator, 0), draws).training(0, kept.good)["theta"].double()
    share, error = 1.0 - kept.good / draws, math.sqrt(0.1 * 0.9 / draws)
    record("share of draws that fail", share, error, ideal=0.1, goal="0.1", ok=abs(share - 0.1) < 4 * error)
    truly = (store.values(0, draws)["theta"] < -0.8).sum()
    wrong = abs(int(truly) - (draws - kept.good))
    record("draws taken for failed or good that are not", wrong, None, goal="0", ok=wrong == 0, ideal=0.0)
    mean, sd = float(theta.mean()), 1.8 / math.sqrt(12.0 * kept.good)
    record("mean of the good parameters", mean, sd, ideal=0.1, goal="0.1", ok=abs(mean - 0.1) < 4 * sd)
    record("least good parameter", float(theta.min()), None, goal=">= -0.8", ok=float(theta.min()) >= -0.8)


def killed_workers(times: int) -> None:
    """Workers of this machine killed with SIGKILL while they are at work."""
    simulator, draw, killed = Traced(), random.Random(0), 0
    tasks = [(first, 5) for first in range(0, 60 * times, 5)]
    found = []
    with open_pool(read_place(workers=2), simulating(simulator, by_options=True), QuietMonitor()) as pool:
        for one in simulate_all(simulator, 0, "training", tasks, pool):
            found.append(one)
            if killed < times and draw.random() < times / len(tasks) * 2.0 and (pids := _children()):
                os.kill(draw.choice(pids), signal.SIGKILL)
                killed += 1
    same = _same(simulator, tasks, found)
    record(
        f"pieces that are the same after {killed} killed workers",
        same,
        None,
        goal=f"{len(tasks)}",
        ok=same == len(tasks) and killed > 0,
    )


def cancelled_job(folder: Path) -> None:
    """A job of Slurm cancelled while it is at work; nothing is recorded where Slurm is not installed."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "workers"))
    import slurm_here
    from duties import until

    if slurm_here.missing():
        print(f"slurm: left out, {slurm_here.missing()}", file=sys.stderr)
        return
    simulator, tasks = Traced(), [(first, 5) for first in range(0, 1000, 5)]
    file = folder / "jobs.yaml"
    file.write_text(f"jobs: 2\nmemory: 1GB\ntime: '00:10:00'\nlogs: {folder / 'logs'}\n")
    with ExitStack() as stack:
        environment = stack.enter_context(slurm_here.slurm())
        stack.enter_context(_environment(environment))
        place = read_place(cluster=f"slurm:{file}")
        pool = stack.enter_context(open_pool(place, simulating(simulator, by_options=True), QuietMonitor()))
        until(lambda: len(slurm_here.jobs(environment)) == 2)
        coming = simulate_all(simulator, 0, "training", tasks, pool)
        found = [next(coming)]
        slurm_here.cancel(environment, slurm_here.jobs(environment)[0])
        found += coming
    same = _same(simulator, tasks, found)
    record(
        "pieces that are the same after a cancelled job of Slurm",
        same,
        None,
        goal=f"{len(tasks)}",
        ok=same == len(tasks),
    )


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _same(simulator: Traced, tasks: list[tuple[int, int]], found: list[Attempts]) -> int:
    """How many pieces came once each and are to the bit what this process makes."""
    by_first: dict[int, list[Attempts]] = {}
    for one in found:
        by_first.setdefault(one.first, []).append(one)
    count = 0
    for first, n in tasks:
        (one, *more) = by_first.get(first, [None])
        expected = attempt(simulator, 0, "training", first, n)
        count += one is not None and not more and torch.equal(one.outputs["x"], expected.outputs["x"])
    return count


def _children() -> list[int]:
    """Processes that this one has started."""
    found = [file.read_text().split() for file in Path("/proc/self/task").glob("*/children")]
    return [int(pid) for some in found for pid in some]
