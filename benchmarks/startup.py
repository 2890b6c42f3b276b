"""How long the command line takes to answer: `python benchmarks/startup.py`.

Each command runs in a process of its own, five times after one warm-up; the figure is the median, its error
the standard error of the mean.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from _record import record

GOAL = 0.7
REPEATS = 5


def seconds(*command: str) -> list[float]:
    """Wall seconds of each repetition."""
    times = []
    for _ in range(REPEATS + 1):
        began = time.monotonic()
        subprocess.run([sys.executable, "-m", "sbikit", *command], check=True, stdout=subprocess.DEVNULL)
        times.append(time.monotonic() - began)
    return times[1:]


if __name__ == "__main__":
    for words in (("--help",), ("plugins",)):
        found = seconds(*words)
        middle = statistics.median(found)
        record(
            f"wall seconds of `python -m sbikit {' '.join(words)}`",
            middle,
            statistics.stdev(found) / REPEATS**0.5,
            goal=f"below {GOAL}",
            ok=middle < GOAL,
        )
