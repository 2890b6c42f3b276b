"""Joint draws a CPU second beside effective ones of hmc, on one thread, in one process.

Observations are of the training stream, far beyond all that train, and no result is reported on them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from _product import product_seconds
from _record import record
from _run_folder import streams

from sbikit import Monitor, QuietMonitor, draw_seeds, load, one_thread
from sbikit.roles.sampler import Sampler
from sbikit.run import Run

FIRST = 20_000_000


@dataclass(frozen=True)
class SpeedSize:
    """How much is drawn.

    Args:
        observations: of hmc, all at once.
        effective: effective draws that it is asked for.
        blocks, each, draws: of the trained sampler: blocks of observations, and draws for each of these.
        options: of hmc.
    """

    observations: int = 64
    effective: int = 400
    blocks: int = 4
    each: int = 4
    draws: int = 240
    options: Mapping[str, Any] = field(default_factory=dict)


def speed(run: Run, size: SpeedSize, monitor: Monitor | None = None) -> dict[str, float]:
    """Seconds of the matrix product, seconds of a joint draw with its error, effective draws a second of hmc.

    The last is 0 where hmc trusts none of its draws.

    Raises:
        UnsupportedError: hmc cannot draw from this posterior.
    """
    simulator = run.simulator
    exact = load("sampler", "hmc", **size.options).posterior(simulator, monitor=monitor or QuietMonitor())
    sampler = run.estimator.load(run.folder.estimator, simulator, device=torch.device("cpu"))
    count = max(size.observations, size.blocks * size.each)
    drawn = streams(run).training(FIRST, count)
    data = {name: drawn[name] for name in simulator.observed}
    with one_thread():
        products = [product_seconds()]
        seconds = [_seconds_a_draw(sampler, data, block, size) for block in range(size.blocks)]
        few = {name: value[: size.observations] for name, value in data.items()}
        began = time.process_time()
        seeds = draw_seeds(1, "rate of hmc", 0, size.observations)
        found = exact.sample(few, size.effective, seeds=seeds)
        worth = size.effective * sum(one.trustworthy for one in found.trust)
        rate = worth / (time.process_time() - began)
        products.append(product_seconds())
    return {
        "product": float(np.mean(products)),
        "draw": float(np.mean(seconds)),
        "draw error": float(np.std(seconds, ddof=1) / size.blocks**0.5),
        "hmc": rate,
    }


def _seconds_a_draw(sampler: Sampler, data: Mapping[str, torch.Tensor], block: int, size: SpeedSize) -> float:
    rows = slice(block * size.each, (block + 1) * size.each)
    some = {name: value[rows] for name, value in data.items()}
    began = time.process_time()
    sampler.sample(some, size.draws, seeds=draw_seeds(1, "rate", block, size.each))
    return (time.process_time() - began) / (size.each * size.draws)


def tell_speed(found: Mapping[str, float], tell: Callable[..., Any] = record) -> None:
    """The figures of `_speed.speed`, one line each; without those of hmc where it trusts no draws."""
    each, error, rate = found["draw"], found["draw error"], found["hmc"]
    tell("CPU ms of a product of two 1024 x 1024 float32 matrices", 1e3 * found["product"], None)
    tell("CPU ms of a joint draw", 1e3 * each, 1e3 * error)
    tell("effective draws a CPU second of hmc, at least", rate, None)
    if rate > 0:
        tell("joint draws a CPU second over hmc's", 1.0 / each / rate, error / each**2 / rate, ideal=1.0)
