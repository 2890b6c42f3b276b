"""How long the command line takes to answer, and Python its first simulation: `python benchmarks/startup.py`.

Each runs in a process of its own, five times after one warm-up; the figure is the median, its error the
standard error of the mean.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time

from _product import product_seconds
from _record import record

WALL_GOAL, CPU_GOAL, FIRST_GOAL = 0.7, 1.0, 3.0
REPEATS = 5
FIRST = "import sbikit; sbikit.simulate('lognormal', 8, progress=False)"
OWN = (
    "import sbikit; from sbikit.testing import GaussianVector; "
    "sbikit.simulate(GaussianVector(), 8, progress=False)"
)


def seconds(*command: str) -> tuple[list[float], list[float]]:
    """Wall and CPU seconds of each repetition of `python ...`."""
    wall, cpu = [], []
    for _ in range(REPEATS + 1):
        began, used = time.monotonic(), _used()
        subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
        wall.append(time.monotonic() - began)
        cpu.append(_used() - used)
    return wall[1:], cpu[1:]


def _used() -> float:
    of_children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return of_children.ru_utime + of_children.ru_stime


def tell(what: str, found: list[float], goal: float) -> None:
    """One figure."""
    middle = statistics.median(found)
    error = statistics.stdev(found) / REPEATS**0.5
    record(what, middle, error, goal=f"below {goal}", ok=middle < goal)


if __name__ == "__main__":
    record("CPU ms of a product of two 1024 x 1024 float32 matrices", 1e3 * product_seconds(), None)
    for words in ("--help", "plugins"):
        tell(f"wall seconds of `python -m sbikit {words}`", seconds("-m", "sbikit", words)[0], WALL_GOAL)
    for words in ("plugins show diffusion-transformer", "config show"):
        found = seconds("-m", "sbikit", *words.split())[1]
        tell(f"CPU seconds of `python -m sbikit {words}`", found, CPU_GOAL)
    for code in (OWN, FIRST):
        tell(f'CPU seconds of `python -c "{code}"`', seconds("-c", code)[1], FIRST_GOAL)
