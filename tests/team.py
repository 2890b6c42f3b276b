"""Two processes that work together, and what they find; for tests of several devices."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path

from sbikit import Team

SIZE = 2


def in_two_processes(work: Callable[[Team, Path], None], folder: Path) -> None:
    """Call `work(team, folder)` in two new processes, and wait until both have ended well."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_meet, args=(rank, work, folder)) for rank in range(SIZE)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        process.kill()
    assert [process.exitcode for process in processes] == [0, 0]


def _meet(rank: int, work: Callable[[Team, Path], None], folder: Path) -> None:
    import torch

    from sbikit.learning.devices import leave, meet

    torch.set_num_threads(1)
    work(meet(rank, SIZE, "cpu", folder / "meeting"), folder)
    leave()
