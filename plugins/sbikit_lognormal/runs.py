"""CAMB runs at chosen cosmologies, shared out to processes, one file a finished run.

The folder is the queue: a run whose file is there is done, so an interrupted build goes on where it stopped.
A worker is `python -m sbikit_lognormal.runs FOLDER FIRST STEP` and takes every STEP-th missing run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sbikit_lognormal.spectra import Setting, shift, spectra

Array = NDArray[np.float64]

BOX = {"Omega_m": (0.15, 0.50), "S8": (0.50, 1.10), "w0": (-2.00, -0.35)}
"""The cosmologies that an emulator covers."""


def from_unit(u: Array) -> Array:
    """Cosmologies (n, 3) of points in the unit cube, even in log Omega_m, log S8 and w0."""
    low, high = np.array(list(BOX.values())).T
    logs = np.array([True, True, False])
    safe_low, safe_high = np.where(logs, low, 1.0), np.where(logs, high, 1.0)
    return np.where(logs, safe_low * (safe_high / safe_low) ** u, low + (high - low) * u)


def run_all(
    setting: Setting,
    cosmologies: Array,
    folder: Path,
    *,
    processes: int,
    progress: Callable[[int], None],
) -> tuple[Array, Array]:
    """Spectra and shifts at all cosmologies; what is in the folder is not computed again.

    Args:
        setting: sources and fixed cosmology.
        cosmologies: Omega_m, S8, w0, (n, 3).
        folder: where finished runs are kept; it belongs to this setting and these cosmologies.
        processes: workers.
        progress: called with the number of newly finished runs.

    Returns:
        Spectra (n, bins, bins, n_ell) and shifts (n, bins).

    Raises:
        RuntimeError: the folder belongs to another design, or a worker failed; the message holds what it
            printed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _claim(
        folder / "design.json", json.dumps({"setting": asdict(setting), "cosmologies": cosmologies.tolist()})
    )
    files = [_file(folder, index) for index in range(len(cosmologies))]
    if not all(file.exists() for file in files):
        _work(folder, processes, lambda: sum(file.exists() for file in files), progress)
    else:
        progress(len(files))
    runs = [np.load(file, allow_pickle=False) for file in files]
    return np.stack([run["spectra"] for run in runs]), np.stack([run["shift"] for run in runs])


def _claim(path: Path, design: str) -> None:
    """Note what the folder is for, or refuse one that holds runs of something else."""
    if not path.exists():
        path.write_text(design)
    elif path.read_text() != design:
        raise RuntimeError(
            f"{path.parent} holds CAMB runs of another design: delete it or choose another folder"
        )


def _file(folder: Path, index: int) -> Path:
    return folder / f"run_{index:04d}.npz"


def _work(folder: Path, processes: int, count: Callable[[], int], progress: Callable[[int], None]) -> None:
    """Start the workers and report until they are done."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "sbikit_lognormal.runs", str(folder)]
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
            time.sleep(0.1 if running else 0.0)
    finally:
        for worker in workers:
            worker.terminate()
        messages = [worker.communicate()[1] for worker in workers]
    failed = [text for worker, text in zip(workers, messages, strict=True) if worker.returncode != 0]
    if failed:
        raise RuntimeError(f"a CAMB run failed; finished ones are kept in {folder}\n{failed[0]}")


def _worker(folder: Path, first: int, step: int) -> None:
    """Compute every `step`-th missing run from `first` on."""
    design = json.loads((folder / "design.json").read_text())
    setting = Setting(**design["setting"])
    for index in range(first, len(design["cosmologies"]), step):
        target = _file(folder, index)
        if target.exists():
            continue
        omega_m, s8, w0 = design["cosmologies"][index]
        c = spectra(setting, omega_m, s8, w0)
        if not (np.isfinite(c).all() and (c > 0).all()):
            raise ValueError(f"spectra not positive at Omega_m={omega_m}, S8={s8}, w0={w0}, {setting}")
        part = target.with_suffix(f".part{os.getpid()}.npz")
        np.savez(part, spectra=c, shift=shift(setting, omega_m, w0))
        part.replace(target)


if __name__ == "__main__":
    _worker(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
