"""What hmc gains of processes beside threads: the same observations by two threads of one process, by two
processes of one thread each, and by one thread alone.

    python benchmarks/processes.py [--size 128] [--observations 8] [--transitions 50] [--rounds 3]

Prints a JSON object a line: seconds of wall and of processor, medians over the rounds, half the range of the
former as its error (none of one round), and the ratio to one thread's wall. Start-up is
left out: processes have made their sampler before the clock starts. Wall seconds mean something on a machine
that does nothing else; processor seconds over wall seconds say how much of its cores the work got.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

import torch

from sbikit import Simulations, Values, draw_seeds
from sbikit.roles.monitor import QuietMonitor
from sbikit_exact.hmc import HMC, HMCOptions, HMCSampler
from sbikit_lognormal.options import LogNormalOptions
from sbikit_lognormal.simulator import LogNormal

DRAWS = 50


def sampler(size: int, transitions: int) -> tuple[HMCSampler, LogNormal]:
    """The sampler, whose chains are never trusted and so never go on."""
    simulator = LogNormal(LogNormalOptions(size=size))
    options = HMCOptions(warmup=50, draws=max(50, transitions), max_draws=max(50, transitions))
    found = HMC(options).posterior(simulator, monitor=QuietMonitor())
    assert isinstance(found, HMCSampler)
    return found, simulator


def observations(simulator: LogNormal, count: int) -> Values:
    """Held-out observations, each (count, *shape)."""
    drawn = Simulations(simulator, 0).held_out(0, count)
    return {v.name: drawn[v.name] for v in simulator.spec.observables}


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor seconds of this process."""
    wall, used = time.monotonic(), time.process_time()
    work()
    return time.monotonic() - wall, time.process_time() - used


def by_threads(
    size: int, transitions: int, count: int, threads: int, rounds: int
) -> list[tuple[float, float]]:
    """One process with so many threads."""
    torch.set_num_threads(threads)
    exact, simulator = sampler(size, transitions)
    seen, seeds = observations(simulator, count), draw_seeds(0, "benchmark", 0, count)
    found = [timed(lambda: exact.sample(seen, DRAWS, seeds=seeds)) for _ in range(rounds + 1)]
    return found[1:]


def serve(pipe: Connection, size: int, transitions: int, count: int, share: slice) -> None:
    """One of several processes: draws its share in the batches of the whole, whenever it is told to."""
    torch.set_num_threads(1)
    exact, simulator = sampler(size, transitions)
    seen, seeds = observations(simulator, count), draw_seeds(0, "benchmark", 0, count)
    mine = exact.in_batches(exact.batch_size(seen))
    some = {name: value[share] for name, value in seen.items()}
    pipe.send(None)
    while pipe.recv():
        pipe.send(timed(lambda: mine.sample(some, DRAWS, seeds=seeds[share])))


def by_processes(
    size: int, transitions: int, count: int, number: int, rounds: int
) -> list[tuple[float, float]]:
    """So many processes of one thread."""
    context = multiprocessing.get_context("spawn")
    pipes, processes, share = [], [], count // number
    for rank in range(number):
        here, there = context.Pipe()
        last = count if rank == number - 1 else (rank + 1) * share
        arguments = (there, size, transitions, count, slice(rank * share, last))
        processes.append(context.Process(target=serve, args=arguments, daemon=True))
        processes[-1].start()
        pipes.append(here)
    for pipe in pipes:
        pipe.recv()
    found = []
    for _ in range(rounds + 1):
        began = time.monotonic()
        for pipe in pipes:
            pipe.send(True)
        used = sum(pipe.recv()[1] for pipe in pipes)
        found.append((time.monotonic() - began, used))
    for pipe, process in zip(pipes, processes, strict=True):
        pipe.send(False)
        process.join()
    return found[1:]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--observations", type=int, default=8)
    parser.add_argument("--transitions", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    told = asked.size, asked.transitions, asked.observations
    ways: dict[str, Callable[[], list[tuple[float, float]]]] = {
        "1 thread": lambda: by_threads(*told, 1, asked.rounds),
        "2 threads": lambda: by_threads(*told, 2, asked.rounds),
        "2 processes": lambda: by_processes(*told, 2, asked.rounds),
    }
    alone = 0.0
    for name, way in ways.items():
        walls, used = zip(*way(), strict=True)
        wall = statistics.median(walls)
        alone = alone or wall
        print(
            json.dumps(
                {
                    "what": f"hmc, {asked.observations} observations of {asked.size} x {asked.size}: {name}",
                    "wall_seconds": round(wall, 2),
                    "error": round((max(walls) - min(walls)) / 2, 2) if len(walls) > 1 else None,
                    "processor_seconds": round(statistics.median(used), 2),
                    "gain": round(alone / wall, 2),
                    "to": "1 thread",
                    "device": f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
                    "command": " ".join(["python", *sys.argv]),
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
