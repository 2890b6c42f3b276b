"""Effective draws a second of hmc and nuts on the same log density."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _kept import kept_figures
from _record import record
from torch import Tensor

import sbikit
from _reference.problem import data, posterior
from _reference.scale import Scale
from sbikit import LogDensity, Sampler, Simulations, Simulator, Values, draw_seeds

ENGINES: dict[str, dict[str, Any]] = {"nuts": {}, "nuts, diagonal mass matrix": {"low_rank": False}}
"""The second leaves out the low-rank part of the mass matrix, whose cost grows with the pixels."""
OF_NUTS = 2
MEASURED = {32: 64, 64: 32, 128: 8}
"""Observations that stand for 64 of hmc: batches are independent, so 64 take twice as long as 32."""


def speed(folder: Path, scale: Scale) -> None:
    """Effective draws a second of the parameter that has fewest, warm-up included."""
    for size in scale.speed:
        name = f"{size} px"
        _gradient_costs(folder, size)
        engines = {}
        for engine, options in ENGINES.items():
            kept = folder / f"{engine.replace(',', '').replace(' ', '-')}-{size}"
            engines[engine] = _nuts_speed(kept, size, scale, options)
            about = f"{engine}, {OF_NUTS} observations on {os.cpu_count()} processes, {name}"
            record(f"{about}: effective draws a second", engines[engine].speed, engines[engine].error)
            record(f"{about}: gradients a second", engines[engine].gradients, None)
        for count in (1, 64):
            few = min(count, 8 if scale.short else MEASURED[size])
            found = kept_figures(
                folder / f"hmc-{size}-{count}.json", lambda size=size, few=few: _hmc_speed(size, few)
            )
            about = f"{count} observation(s)" + (f", measured on {few}" if few != count else "") + f", {name}"
            spread = found["error"] if few > 1 else None  # one observation has no spread
            record(f"hmc, {about}: effective draws a second", found["speed"], spread)
            record(f"hmc, {about}: gradients a second", found["gradients"], None)
            for engine, other in engines.items():
                ratio = found["speed"] / other.speed
                relative = math.hypot(other.error / other.speed, found["error"] / found["speed"])
                error = ratio * relative if few > 1 else None
                goal = {"goal": "at least 20", "ok": ratio >= 20.0} if count == 64 else {}
                record(f"hmc over {engine}, {about}", ratio, error, ratio_to=engine, **goal)
                tail = found["tail"] / other.tail
                record(f"hmc over {engine} by tail ESS, {about}", tail, None, ratio_to=engine)


def _gradient_costs(folder: Path, size: int) -> None:
    """What a gradient costs on one thread: that to steer by and autograd's, of 16 chains and of 4."""
    found = kept_figures(folder / f"gradient-{size}.json", lambda: _gradient_seconds(size))
    for name, seconds in found.items():
        record(f"{name}, {size} px: microseconds a chain", 1e6 * seconds, None)


def _gradient_seconds(size: int) -> dict[str, float]:
    """Of a chain, in batches of chains of four observations and of one."""
    found = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for observations in (4, 1):
        simulator, held_out = _speed_problem(size, 0, observations)
        density: LogDensity = simulator.log_density(held_out)  # type: ignore[attr-defined]
        source = torch.Generator().manual_seed(0)
        z = 0.7 * torch.randn(4, observations, density.size, generator=source, dtype=torch.float64)
        about, chains = f"batch of {4 * observations}", 4 * observations
        assert density.gradient is not None
        found[f"gradient to steer by, {about}"] = _median_seconds(density.gradient, z.float()) / chains
        found[f"gradient by autograd, {about}"] = _median_seconds(partial(_autograd, density), z) / chains
    torch.set_num_threads(threads)
    return found


def _autograd(density: LogDensity, z: Tensor) -> None:
    at = z.clone().requires_grad_()
    torch.autograd.grad(density.log_prob(at).sum(), at)


def _median_seconds(work: Callable[[Tensor], object], z: Tensor) -> float:
    """Of 20 times."""
    times = []
    for _ in range(20):
        began = time.perf_counter()
        work(z)
        times.append(time.perf_counter() - began)
    return float(np.median(times))


def _speed_problem(size: int, first: int, count: int) -> tuple[Simulator, dict[str, Tensor]]:
    simulator = sbikit.load("simulator", "lognormal", size=size)
    held_out = data(simulator, Simulations(simulator, 9).held_out(first, count))
    simulator.log_density(held_out)  # tables are made
    return simulator, held_out


def _hmc_speed(size: int, count: int) -> dict[str, float]:
    simulator, held_out = _speed_problem(size, 0, count)
    # No observation goes on: the same work for all.
    return _speed(posterior("hmc", simulator, draws=400, max_draws=400), held_out)


def _speed(sampler: Sampler, held_out: Values) -> dict[str, float]:
    began = time.monotonic()
    count = len(next(iter(held_out.values())))
    found = sampler.sample(held_out, 100, seeds=draw_seeds(1, "speed", 0, count)).trust
    seconds = time.monotonic() - began
    ess = torch.tensor([one.value("bulk ESS") for one in found], dtype=torch.float64)
    return {
        "speed": float(ess.sum()) / seconds,
        "error": float(ess.std()) * math.sqrt(len(ess)) / seconds if len(ess) > 1 else 0.0,
        "tail": sum(one.value("tail ESS") for one in found) / seconds,
        "gradients": sum(one.value("gradients") for one in found) / seconds,
        "seconds": seconds,
    }


@dataclass(frozen=True)
class NutsSpeed:
    """Effective draws (bulk, and tail) and gradients a second of all processes together."""

    speed: float
    error: float
    tail: float
    gradients: float


def _nuts_speed(folder: Path, size: int, scale: Scale, options: dict[str, Any]) -> NutsSpeed:
    """Of as many processes as cores, each with observations of its own; kept."""
    workers = os.cpu_count() or 1
    files = [folder / f"{b}.json" for b in range(OF_NUTS)]
    if not all(file.exists() for file in files):
        command = [sys.executable, str(Path(__file__).parents[1] / "reference.py"), str(folder), "--worker"]
        running = []
        options = {"warmup": scale.engine[0], "draws": scale.engine[1], **options}
        for first in range(min(workers, OF_NUTS)):
            task = {"size": size, "observations": [*range(first, OF_NUTS, workers)], "options": options}
            running.append(subprocess.Popen([*command, json.dumps(task)]))
        if any(process.wait() for process in running):
            sys.exit("a process of nuts failed")
    found = [json.loads(file.read_text()) for file in files]
    seconds = torch.tensor([one["seconds"] for one in found])

    def rate(name: str) -> float:
        return workers * sum(one[name] * one["seconds"] for one in found) / float(seconds.sum())

    draws = torch.tensor([one["speed"] for one in found]) * seconds
    mean = draws.sum() / seconds.sum()
    spread = float((draws - mean * seconds).std() / seconds.mean() / math.sqrt(OF_NUTS))
    return NutsSpeed(rate("speed"), workers * spread, rate("tail"), rate("gradients"))


def worker(folder: Path, task: str) -> None:
    """Some observations by nuts, one after the other on one thread."""
    asked = json.loads(task)
    torch.set_num_threads(1)
    for b in asked["observations"]:
        simulator, held_out = _speed_problem(asked["size"], b, 1)
        sampler = posterior("nuts", simulator, **asked["options"])
        kept_figures(
            folder / f"{b}.json", lambda sampler=sampler, held_out=held_out: _speed(sampler, held_out)
        )
