"""Joint draws a CPU second beside effective ones of hmc, on one thread, in one process: with products of the
network in float32 and, where the processor multiplies in it, in bfloat16.

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
from sbikit.roles.plugin import supports
from sbikit.roles.sampler import Sampler, SupportsPrecision
from sbikit.runs import Run
from sbikit.runs.devices import choose_precision

FIRST = 20_000_000
_LOWER = "draw in bfloat16"


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
    """Seconds of the matrix product, of a joint draw in each precision with its error, of blocks in turn, and
    effective draws a second of hmc, 0 where it trusts none of its draws.

    Raises:
        UnsupportedError: hmc cannot draw from this posterior.
    """
    simulator = run.simulator
    exact = load("sampler", "hmc", **size.options).posterior(simulator, monitor=monitor or QuietMonitor())
    cpu = torch.device("cpu")
    own = run.estimator.load(run.folder.estimator, simulator, device=cpu)
    samplers, lower = {"draw": own}, choose_precision("auto", cpu)
    if lower != torch.float32 and supports(own, SupportsPrecision):
        samplers[_LOWER] = own.in_precision(lower)
    count = max(size.observations, size.blocks * size.each)
    drawn = streams(run).training(FIRST, count)
    data = {name: drawn[name] for name in simulator.observed}
    with one_thread():
        products = [product_seconds()]
        seconds = [
            {name: _seconds_a_draw(sampler, data, block, size) for name, sampler in samplers.items()}
            for block in range(size.blocks)
        ]
        few = {name: value[: size.observations] for name, value in data.items()}
        began = time.process_time()
        seeds = draw_seeds(1, "rate of hmc", 0, size.observations)
        exactly = exact.sample(few, size.effective, seeds=seeds)
        worth = size.effective * sum(one.trustworthy for one in exactly.trust)
        rate = worth / (time.process_time() - began)
        products.append(product_seconds())
    found = {"product": float(np.mean(products)), "hmc": rate}
    for name in samplers:
        each = [block[name] for block in seconds]
        found |= {name: float(np.mean(each)), f"{name} error": float(np.std(each, ddof=1) / size.blocks**0.5)}
    return found


def _seconds_a_draw(sampler: Sampler, data: Mapping[str, torch.Tensor], block: int, size: SpeedSize) -> float:
    rows = slice(block * size.each, (block + 1) * size.each)
    some = {name: value[rows] for name, value in data.items()}
    began = time.process_time()
    sampler.sample(some, size.draws, seeds=draw_seeds(1, "rate", block, size.each))
    return (time.process_time() - began) / (size.each * size.draws)


def tell_speed(found: Mapping[str, float], tell: Callable[..., Any] = record) -> None:
    """The figures of `_speed.speed`, one line each; without those of hmc where it trusts no draws."""
    rate = found["hmc"]
    tell("CPU ms of a product of two 1024 x 1024 float32 matrices", 1e3 * found["product"], None)
    tell("effective draws a CPU second of hmc, at least", rate, None)
    for name, words in (("draw", ""), (_LOWER, " with --precision auto")):
        if name not in found:
            continue
        each, error = found[name], found[f"{name} error"]
        tell(f"CPU ms of a joint draw{words}", 1e3 * each, 1e3 * error)
        if rate > 0:
            ratio = 1.0 / each / rate
            tell(f"joint draws a CPU second over hmc's{words}", ratio, ratio * error / each, ideal=1.0)
