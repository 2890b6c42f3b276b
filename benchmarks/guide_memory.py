"""Peak memory of fitting constants and guide at 128 px x 5 bins: `python benchmarks/guide_memory.py [COUNT]`.

COUNT simulations (8,192) come in parts of 16, and lie in files of a temporary folder. One thread; the peak is
that of the process (VmHWM), before and after the fit.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from _product import product_seconds
from _record import record

from sbikit import Simulations, Values, load
from sbikit_transformer.constants import fit_constants
from sbikit_transformer.denoiser import Denoiser

PART = 16


def peak() -> float:
    """Of this process so far, GB."""
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1e6


def main() -> None:
    """Fit, then tell."""
    torch.set_num_threads(1)
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 8192
    simulator = load("simulator", "lognormal", size=128, sources={"bins": 5})
    denoiser = Denoiser(simulator, simulator.spec, patch=8, width=64, depth=2, heads=4, nodes=64)
    simulations = Simulations(simulator, 0)
    before: list[float] = []

    def parts() -> Iterator[Values]:
        for first in range(0, count, PART):
            yield simulations.training(first, PART)
        before.extend((peak(), time.process_time()))

    product, began = product_seconds(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        fit_constants(denoiser, parts(), Path(folder))
    record("CPU ms of a product of two 1024 x 1024 float32 matrices", 1e3 * product, None)
    record(f"peak GB before the fit to {count} simulations", before[0], None)
    record(f"peak GB after the fit to {count} simulations", peak(), None)
    record(f"CPU seconds to simulate {count}", before[1] - began, None)
    record(f"CPU seconds of the fit to {count} simulations", time.process_time() - before[1], None)


if __name__ == "__main__":
    main()
