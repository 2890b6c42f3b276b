"""CAMB runs at chosen cosmologies, shared out to processes, one file a finished run.

The folder is the queue: a run whose file is there is done, so an interrupted build goes on where it stopped.
A worker is `python -m sbikit_lognormal.build.runs FOLDER FIRST STEP` and takes every STEP-th missing run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sbikit.storage import write_text
from sbikit_lognormal.build.matter import matter_power

Array = NDArray[np.float64]

_PAUSE = 0.1  # seconds between looks at the workers; a run takes one or two


def run_all(points: Array, folder: Path, *, processes: int, progress: Callable[[int], None]) -> list[Path]:
    """Matter power at all points; what is in the folder is not computed again.

    Args:
        points: six parameters and log T_AGN of each run, (n, 7).
        folder: where finished runs are kept; it belongs to these points.
        processes: workers.
        progress: called with the number of newly finished runs.

    Returns:
        The files of the runs, to be read with `MatterPower.load`.

    Raises:
        RuntimeError: the folder belongs to other points, or a worker failed; the message holds what it
            printed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _claim(folder / "points.json", points)
    files = [_file(folder, index) for index in range(len(points))]
    if all(file.exists() for file in files):
        progress(len(files))
    else:
        _work(folder, processes, lambda: sum(file.exists() for file in files), progress)
    return files


def _claim(path: Path, points: Array) -> None:
    """Note what the folder is for, or refuse one that holds runs at other points.

    A design may be continued: its first points are those of a shorter one.
    """
    if path.exists():
        known = np.array(json.loads(path.read_text()))
        shared = min(len(known), len(points))
        if not np.allclose(known[:shared], points[:shared], rtol=1e-9, atol=0.0):
            raise RuntimeError(
                f"{path.parent} holds CAMB runs of another design: delete it or choose another folder"
            )
        if len(known) >= len(points):
            return
    write_text(path, json.dumps(points.tolist()))


def _file(folder: Path, index: int) -> Path:
    return folder / f"run_{index:04d}.npz"


def _work(folder: Path, processes: int, count: Callable[[], int], progress: Callable[[int], None]) -> None:
    """Start the workers and report until they are done."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "sbikit_lognormal.build.runs", str(folder)]
    workers = [
        subprocess.Popen(
            [*command, str(first), str(processes)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for first in range(processes)
    ]
    seen = 0
    try:
        running = True
        while running:
            running = any(worker.poll() is None for worker in workers)
            done = count()
            progress(done - seen)
            seen = done
            time.sleep(_PAUSE if running else 0.0)
    finally:
        for worker in workers:
            worker.terminate()
        messages = [worker.communicate()[1] for worker in workers]
    failed = [text for worker, text in zip(workers, messages, strict=True) if worker.returncode != 0]
    if failed:
        raise RuntimeError(f"a CAMB run failed; finished ones are kept in {folder}\n{failed[0]}")


def _worker(folder: Path, first: int, step: int) -> None:
    """Compute every `step`-th missing run from `first` on."""
    points = json.loads((folder / "points.json").read_text())
    for index in range(first, len(points), step):
        target = _file(folder, index)
        if target.exists():
            continue
        *cosmology, log_t_agn = points[index]
        power = matter_power(cosmology, log_t_agn)
        for table in (power.log_nonlinear, power.log_linear, power.log_feedback):
            if not np.isfinite(table).all():
                raise ValueError(f"the matter power is not finite at {points[index]}")
        power.save(target)


if __name__ == "__main__":
    _worker(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
