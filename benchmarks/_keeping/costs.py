"""What keeping costs: draws a second by workers, the store beside plain files, memory of streaming."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from _record import record

from _keeping.simulators import BINS, PIXELS, Maps, Sleeper
from sbikit import QuietMonitor
from sbikit.problem.memory import peak_bytes
from sbikit.simulations import Simulations, Store, Stored, attempt, simulate_all, simulating
from sbikit.simulations.layout import array_of
from sbikit.simulations.writer import writing
from sbikit.workers import open_pool, read_place

_IDENTITY = {"made by": "a benchmark"}


def rates(draws: int) -> None:
    """Draws a second of a simulator that sleeps 20 ms, of the ideal, with one and two workers."""
    simulator = Sleeper()
    for words in ({"workers": 1}, {"workers": 2}, {"cluster": "local:2"}):
        place = read_place(**words)  # type: ignore[arg-type]
        workers = max(place.workers, 1)
        tasks = [(first, 25) for first in range(0, draws, 25)]
        with open_pool(place, simulating(simulator, by_options=True), QuietMonitor()) as pool:
            list(simulate_all(simulator, 1, "warm", [(0, 1), (1, 1)], pool))  # workers have started
            began = time.monotonic()
            done = sum(len(one.seconds) for one in simulate_all(simulator, 0, "training", tasks, pool))
            seconds = time.monotonic() - began
        share = done / seconds / (workers / Sleeper.seconds)
        name = ", ".join(f"{key} {value}" for key, value in words.items())
        record(f"draws a second at 20 ms a draw, {name}", done / seconds, None)
        record(f"share of the ideal rate, {name}", share, None, goal=">= 0.95", ok=share >= 0.95, ideal=1.0)


def overhead(folder: Path, draws: int, repeats: int) -> None:
    """Writing draws of 0.98 MB to a store, in CPU seconds, over writing them as one .npy file a variable a
    chunk: medians over repeats, and the spread of their ratio when repeats are drawn anew.
    """
    for plain in (True, False):
        _written(folder, draws, plain=plain)  # pages of memory are found the first time
    pairs = [[_written(folder, draws, plain=plain) for plain in (True, False)] for _ in range(repeats)]
    plain_seconds, kept = np.array(pairs).T
    ratio = float(np.median(kept) / np.median(plain_seconds))
    some = np.random.default_rng(0).integers(0, repeats, (1000, repeats))
    error = float((np.median(kept[some], 1) / np.median(plain_seconds[some], 1)).std())
    record(
        "CPU seconds of the store over plain npy",
        ratio,
        error,
        goal="<= 1.3",
        ok=ratio <= 1.3,
        ratio_to="numpy.save of the same arrays",
    )


def _written(folder: Path, draws: int, *, plain: bool) -> float:
    simulator = Maps()
    place = folder / ("plain" if plain else "overhead.zarr")
    shutil.rmtree(place, ignore_errors=True)
    Store.create(place, simulator, _IDENTITY, seed=0, seconds=0.0)
    rows = Store.open(place, simulator, _IDENTITY).rows
    parts = [attempt(simulator, 0, "training", first, rows) for first in range(0, draws - rows + 1, rows)]
    if plain:
        began = time.process_time()
        for part in parts:
            for name, values in {**part.parameters, **part.outputs}.items():
                np.save(place / f"{name}-{part.first}.npy", values.numpy())
        return time.process_time() - began
    with writing(place, simulator, _IDENTITY) as writer:
        began = time.process_time()
        writer.grow(draws)
        for part in parts:
            writer.put(part)
        return time.process_time() - began


def memory(folder: Path, draws: int) -> None:
    """Largest memory of a process that reads so many draws of 128 pixels in five bins once, in order.

    The store is sparse: all chunks of values are hard links to one.
    """
    store = folder / "large.zarr"
    if not store.exists():
        make_sparse(store, draws)
    script = Path(__file__).resolve().parent.parent / "keeping.py"
    words = [sys.executable, str(script), str(folder), "--read", str(draws)]
    out = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()
    megabytes = float(out[-1])
    record(
        f"peak memory (MB) of reading {draws:,} draws of {PIXELS} px x {BINS} bins from a store",
        megabytes,
        None,
        goal="< 2000",
        ok=megabytes < 2000,
    )


def make_sparse(path: Path, draws: int) -> None:
    """A store of `draws` draws that are all the same; a chunk of values is one file under many names."""
    simulator = Maps()
    Store.create(path, simulator, _IDENTITY, seed=0, seconds=0.0)
    rows = Store.open(path, simulator, _IDENTITY).rows
    with writing(path, simulator, _IDENTITY) as writer:
        writer.grow(draws)
        one = attempt(simulator, 0, "training", 0, 1)
        for row in range(rows):
            writer.put(type(one)(row, one.parameters, one.seeds, one.outputs, {}, one.seconds))
        arrays = writer.store.arrays
        for variable in writer.store.variables:
            chunks = arrays[array_of(variable)]
            for number in range(1, -(-draws // rows)):
                _link(chunks.file(0), chunks.file(number * rows), number)
        for name in ("digest", "status"):
            arrays[name].write(0, np.repeat(arrays[name].read(0, 1), draws, 0))


def _link(first: Path, path: Path, number: int) -> None:
    """A file may have 65,000 names; then a copy takes its place."""
    source = first.with_name(f"{first.name}.copy{number // 50_000}") if number >= 50_000 else first
    if not source.exists():
        shutil.copy(first, source)
    os.link(source, path)


def read_all(folder: Path, draws: int) -> None:
    """Read all training draws of the large store in batches of 32; print the peak memory in MB."""
    simulator = Maps()
    store = Stored(Store.open(folder / "large.zarr", simulator, _IDENTITY), Simulations(simulator, 0), draws)
    total = 0.0
    for first in range(0, draws - 31, 32):
        total += float(store.training(first, 32)["shear"][0, 0, 0, 0])
    print(peak_bytes() / 1e6)
