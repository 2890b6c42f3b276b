"""Training on a machine that is not ours alone: `python benchmarks/busy.py`.

Steps a second of the quick preset on two cores, alone and beside one process that never sleeps: as sbikit
trains, on two threads that sleep while they wait for each other, and on two that spin, as before. What is
fair beside the other process is the rate of one thread alone, since one core is left. Settings take turns,
in random order; a window in which anything else takes more than a twentieth of a core is taken again.
Errors are standard errors over windows. `--seconds 5` makes windows shorter, `--repeats 3` fewer.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

QUIET, TRIES = 0.05, 500  # cores that others may take in a window, and how often one is taken again
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_NUM_THREADS")
SETTINGS: dict[str, tuple[dict[str, str], list[str]]] = {
    "as sbikit trains": ({}, []),
    "one thread": ({"OMP_NUM_THREADS": "1"}, []),
    "two threads that sleep": ({"OMP_WAIT_POLICY": "PASSIVE"}, ["--all-threads"]),
    "two threads that spin, libgomp's default": ({"GOMP_SPINCOUNT": "300000"}, ["--all-threads"]),
}


class _WindowOver(Exception):
    """Ends a training."""


def serve(all_threads: bool) -> None:
    """Train for as many seconds as each line of the input says; answer with steps a second."""
    from _quick_training import COPIES, OPTIONS, quick_denoiser, train_steps

    import sbikit
    from sbikit_transformer.training import enough_threads, make_optimisers

    simulations = sbikit.Simulations(sbikit.load("simulator", "lognormal"), 0)
    denoiser = quick_denoiser(simulations)
    print("ready", flush=True)
    for line in sys.stdin:
        ticks: list[float] = []

        def tick(ticks: list[float] = ticks, seconds: float = float(line)) -> None:
            ticks.append(time.monotonic())
            if ticks[-1] - ticks[0] > seconds:
                raise _WindowOver

        optimisers = make_optimisers(denoiser.network, OPTIONS.rate)
        threads = nullcontext() if all_threads else enough_threads(denoiser.network, OPTIONS.batch, COPIES)
        try:
            with threads:
                train_steps(denoiser, simulations, optimisers, 10**6, tick)
        except _WindowOver:
            print((len(ticks) - 1) / (ticks[-1] - ticks[0]), flush=True)


class Trainee:
    """A process that trains when told to."""

    def __init__(self, environment: dict[str, str], words: list[str]) -> None:
        kept = {name: value for name, value in os.environ.items() if name not in WAITING}
        command = [sys.executable, __file__, "--serve", *words]
        self.process = subprocess.Popen(
            command, env={**kept, **environment}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._answer()

    def rate(self, seconds: float) -> float:
        """Steps a second."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        return float(self._answer())

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@contextmanager
def neighbour(wanted: bool) -> Iterator[list[int]]:
    """Another user's process that never sleeps, or none; its id."""
    if not wanted:
        yield []
        return
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True)
    try:
        yield [process.pid]
    finally:
        process.kill()
        process.wait()


def used(pids: list[int]) -> float:
    """CPU seconds of processes so far."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def used_by_all() -> float:
    """CPU seconds of the machine so far, idle ones left out."""
    user, nice, system, _, _, irq, soft = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:8]
    )
    return (user + nice + system + irq + soft) / os.sysconf("SC_CLK_TCK")


def window(trainee: Trainee, busy: bool, seconds: float) -> tuple[float, float]:
    """Steps a second, and the cores that others took meanwhile."""
    with neighbour(busy) as pids:
        ours = [*pids, trainee.process.pid]
        began, before = time.monotonic(), used_by_all() - used(ours)
        rate = trainee.rate(seconds)
        return rate, (used_by_all() - used(ours) - before) / (time.monotonic() - began)


def quiet_window(trainee: Trainee, busy: bool, seconds: float) -> float:
    """Steps a second in a window in which the machine was ours."""
    for _ in range(TRIES):
        before, began = used_by_all(), time.monotonic()
        time.sleep(1.0)
        if used_by_all() - before < QUIET * (time.monotonic() - began):
            rate, others = window(trainee, busy, seconds)
            if others < QUIET:
                return rate
    sys.exit("the machine is never quiet: nothing is measured")


def main(seconds: float, repeats: int) -> None:
    """Measure, then tell."""
    import numpy as np
    from _record import record

    from sbikit import mean_and_error

    trainees = {name: Trainee(*setting) for name, setting in SETTINGS.items()}
    for trainee in trainees.values():
        trainee.rate(1.0)
    cases = [(name, busy) for name in SETTINGS for busy in (False, True)]
    rates: dict[tuple[str, bool], list[float]] = {case: [] for case in cases}
    for _ in range(repeats):
        for name, busy in random.sample(cases, len(cases)):
            rates[name, busy].append(quiet_window(trainees[name], busy, seconds))
            print(json.dumps([name, busy, rates[name, busy][-1]]), file=sys.stderr, flush=True)
    device = f"{os.cpu_count()} cores"
    fair, fair_error = mean_and_error(np.array(rates["one thread", False]))
    for (name, busy), found in rates.items():
        mean, error = mean_and_error(np.array(found))
        where = "beside a busy process" if busy else "alone"
        record(f"training steps a second, {name}, {where}", mean, error, device=device)
        if busy:
            record(
                f"rate of training, {name}, {where}",
                mean / fair,
                mean / fair * math.hypot(error / mean, fair_error / fair),
                goal="at least 0.7" if name == "as sbikit trains" else None,
                ok=mean / fair >= 0.7,
                ratio_to="one thread alone",
                device=device,
            )
    for trainee in trainees.values():
        trainee.process.kill()
        trainee.process.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--repeats", type=int, default=5)
    for hidden in ("--serve", "--all-threads"):
        parser.add_argument(hidden, action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    serve(chosen.all_threads) if chosen.serve else main(chosen.seconds, chosen.repeats)
