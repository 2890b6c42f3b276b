"""Training on kept simulations: what it reaches on known posteriors, and when it runs at its full rate."""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from _record import record
from exact import Toy, compare

from sbikit import Estimator, JointDraws, QuietMonitor, Sampler, Simulations, Workspace
from sbikit.simulations import Store, Stored, attempt
from sbikit.simulations.writer import writing
from sbikit.testing import GaussianField, GaussianVector
from sbikit_npe.estimator import NPE, NPEOptions
from sbikit_transformer.estimator import DiffusionTransformer, TransformerOptions

_IDENTITY = {"made by": "a benchmark"}
_OBSERVATIONS = 32


class Listener(QuietMonitor):
    """Remembers what a training logs, and when each of its steps was done."""

    def __init__(self) -> None:
        self.records: list[dict[str, float | int | str]] = []
        self.times: list[float] = []

    def log(self, **record: float | int | str) -> None:
        self.records.append(record)

    @contextmanager
    def progress(self, title: str, total: int, start: int = 0) -> Iterator[Callable[[int], None]]:
        def advance(done: int) -> None:
            if title == "training":
                self.times.append(time.monotonic())

        yield advance


def stored(folder: Path, toy: Toy, draws: int) -> Stored:
    """A store of so many draws."""
    path = folder / "simulations.zarr"
    shutil.rmtree(path, ignore_errors=True)
    Store.create(path, toy, _IDENTITY, seed=0, seconds=0.0)
    with writing(path, toy, _IDENTITY) as writer:
        writer.grow(draws)
        rows = writer.store.rows
        for first in range(0, draws, rows):
            writer.put(attempt(toy, 0, "training", first, min(rows, draws - first)))
    return Stored(Store.open(path, toy, _IDENTITY), Simulations(toy, 0), draws)


def toys(counts: tuple[int, ...]) -> None:
    """Agreement with the exact posterior from kept draws and from the stream, and the losses."""
    transformer = TransformerOptions(steps=2000, width=32, depth=2)
    kinds: list[tuple[str, Estimator]] = [
        ("diffusion-transformer", DiffusionTransformer(transformer)),
        ("npe", NPE(NPEOptions())),
    ]
    for toy in (GaussianVector(), GaussianField()):
        for name, estimator in kinds:
            for count in (*counts, None):
                with tempfile.TemporaryDirectory() as folder:
                    draws = Simulations(toy, 0) if count is None else stored(Path(folder), toy, count)
                    about = f"{name}, " + ("the stream" if count is None else f"{count:,} kept")
                    compare(about, toy, _fitted(about, estimator, draws), _OBSERVATIONS)


def _fitted(about: str, estimator: Estimator, draws: JointDraws) -> Sampler:
    listener = Listener()
    sampler = estimator.fit(draws, seed=1, workspace=Workspace(), monitor=listener)
    toy = type(draws.simulator).__name__
    last = listener.records[-1]
    record(f"steps, {about} on {toy}", float(last["step"]), None)
    for what in ("loss", "validation_loss"):
        found = [float(one[what]) for one in listener.records if what in one]
        if found:
            record(f"least {what.replace('_', ' ')}, {about} on {toy}", min(found), None)
    return sampler


def start(folder: Path, draws: int) -> None:
    """Seconds from the first step on a full store until steps come at their rate."""
    steps, window = 600, 20
    estimator = DiffusionTransformer(TransformerOptions(steps=steps, width=32, depth=2))
    listener = Listener()
    estimator.fit(stored(folder, GaussianField(), draws), seed=1, workspace=Workspace(), monitor=listener)
    times = listener.times
    rates = [window / (b - a) for a, b in zip(times, times[window:], strict=False)]
    full = statistics.median(rates[len(rates) // 2 :])
    reached = next(i for i, rate in enumerate(rates) if rate >= 0.9 * full)
    record("steps a second on kept draws", full, None)
    record(
        "seconds from the first step to nine tenths of that rate",
        times[reached] - times[0],
        None,
        goal="< 10",
        ok=times[reached] - times[0] < 10,
    )
