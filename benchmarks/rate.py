"""Joint draws a CPU second beside effective ones of hmc, on one thread: `python benchmarks/rate.py FOLDER`.

FOLDER is a finished run of the quick preset. Observations are of the training stream, which no result is
reported on.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch
from _product import product_seconds
from _record import record

from sbikit import QuietMonitor, Simulations, draw_seeds, load

FIRST, OBSERVATIONS, EFFECTIVE = 20_000_000, 64, 400
BLOCKS, EACH, DRAWS = 4, 4, 240  # of the estimator: blocks of observations, and draws for each of these


def main() -> None:
    """Draw by both, then tell."""
    if len(sys.argv) != 2:
        sys.exit("usage: python benchmarks/rate.py FOLDER")
    torch.set_num_threads(1)
    simulator = load("simulator", "lognormal")
    folder = Path(sys.argv[1]) / "checkpoints" / "estimator"
    sampler = load("estimator", "diffusion-transformer").load(folder, simulator, device=torch.device("cpu"))
    shear = Simulations(simulator, 0).training(FIRST, OBSERVATIONS)["shear"]
    products, seconds = [product_seconds()], []
    for block in range(BLOCKS):
        some = {"shear": shear[block * EACH : (block + 1) * EACH]}
        began = time.process_time()
        sampler.sample(some, DRAWS, seeds=draw_seeds(1, "rate", block, EACH))
        seconds.append((time.process_time() - began) / (EACH * DRAWS))
    each, error = float(np.mean(seconds)), float(np.std(seconds, ddof=1) / BLOCKS**0.5)
    exact = load("sampler", "hmc").posterior(simulator, monitor=QuietMonitor())
    began = time.process_time()
    drawn = exact.sample({"shear": shear}, EFFECTIVE, seeds=draw_seeds(1, "rate of hmc", 0, OBSERVATIONS))
    rate = EFFECTIVE * sum(one.trustworthy for one in drawn.trust) / (time.process_time() - began)
    products.append(product_seconds())
    record("CPU ms of a product of two 1024 x 1024 float32 matrices", 1e3 * float(np.mean(products)), None)
    record("CPU ms of a joint draw", 1e3 * each, 1e3 * error)
    record("effective draws a CPU second of hmc, at least", rate, None)
    record("joint draws a CPU second over hmc's", 1.0 / each / rate, error / each**2 / rate, ideal=1.0)


if __name__ == "__main__":
    main()
