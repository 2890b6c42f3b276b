"""The main job with the quick preset: its calibration, time and memory: `python benchmarks/quick.py FOLDER`.

Runs (or goes on with) the README's first command in FOLDER and prints what its validators found on held-out
observations. Wall time and memory are those of the run, resumed parts included. With `--one-thread` it runs
on one thread, and what this call cost in CPU time is told too, beside a fixed matrix product that is timed
before and after it: machines differ, and one machine from day to day, but the ratio little. With `--reference
hmc` the posterior is compared with the exact one, too.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from _metrics import goal_of
from _product import product_seconds
from _record import record

from sbikit.storage import read_metrics

SECONDS, MEGABYTES = 900.0, 4000.0


def run(folder: Path, more: Sequence[str], threads: dict[str, str]) -> None:
    """The main job; finished stages are not repeated."""
    command = [
        "run",
        "--sim",
        "lognormal",
        "--estimator",
        "diffusion-transformer",
        "--out",
        str(folder),
        *more,
    ]
    environment = {**os.environ, **threads}
    subprocess.run([sys.executable, "-m", "sbikit", *command], check=True, stdout=sys.stderr, env=environment)


def run_on_one_thread(folder: Path, more: Sequence[str]) -> None:
    """The main job on one thread, and its CPU time."""
    products = [product_seconds()]
    before = _children_seconds()
    run(folder, more, {"OMP_NUM_THREADS": "1"})
    seconds = _children_seconds() - before
    products.append(product_seconds())
    product = statistics.fmean(products)
    record("CPU seconds of this call, one thread", seconds, None)
    record("CPU ms of a product of two 1024 x 1024 float32 matrices", 1e3 * product, None)
    error = seconds / product * abs(products[1] - products[0]) / (2.0 * product)
    record("CPU time of this call, one thread", seconds / product, error, ratio_to="the matrix product")


def _children_seconds() -> float:
    """CPU seconds of all processes that this one started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def calibration(folder: Path) -> None:
    """Every figure of every validator; those with a verdict have their ideal as goal."""
    shown = set()
    for report in read_metrics(folder / "metrics.json"):
        for metric in report.metrics:
            name = f"{metric.name} of {metric.variable}"
            if name in shown:
                continue
            shown.add(name)
            goal, ok = goal_of(metric)
            floor, floor_error = metric.floor, metric.floor_error
            record(name, metric.value, metric.error, goal=goal, ok=ok, floor=floor, floor_error=floor_error)


def cost(folder: Path) -> None:
    """Wall time of the stages and the largest resident memory."""
    provenance = json.loads((folder / "provenance.json").read_text())
    total = sum(provenance["timings"].values())
    record("wall seconds of the run", total, None, goal=f"at most {SECONDS:g}", ok=total <= SECONDS)
    for stage, seconds in provenance["timings"].items():
        record(f"wall seconds of the stage {stage}", seconds, None)
    peak = provenance["peak_memory_mb"]
    record("peak memory of the run, MB", peak, None, goal=f"below {MEGABYTES:g}", ok=peak < MEGABYTES)
    record("simulations that trained it", provenance["simulations"], None)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--one-thread", action="store_true")
    parser.add_argument("--reference", help="sampler of the exact posterior to compare with")
    chosen = parser.parse_args()
    words = ["--reference", chosen.reference] if chosen.reference else []
    if chosen.one_thread:
        run_on_one_thread(chosen.folder, words)
    else:
        run(chosen.folder, words, {})
    calibration(chosen.folder)
    cost(chosen.folder)
