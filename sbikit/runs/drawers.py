"""Chunks of draws, here or by workers, each with a sampler of its own that it makes from the run folder.

A chunk is a file that its worker writes, so draws never go from process to process; the folder must be there
for all workers of a cluster. What a draw is depends neither on who draws it nor on what is drawn beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console

from sbikit.plugins.session import Held, hold, holding
from sbikit.problem.errors import DeviceError
from sbikit.roles.monitor import QuietMonitor
from sbikit.runs.config import read_whole_config
from sbikit.runs.console_monitor import ConsoleMonitor
from sbikit.runs.devices import Devices
from sbikit.runs.drawing import Chunk
from sbikit.runs.folder import RunFolder
from sbikit.runs.job import Run
from sbikit.storage.tensors import read_tensors
from sbikit.workers.pool import Lost, Recipe, Task


class Drawer:
    """Draws one chunk after the other and writes them.

    Args:
        run: the run.
        exact: whether the reference draws, or the fitted sampler.
        quiet: whether what the sampler says is kept for who asked for the chunk.
    """

    def __init__(self, run: Run, *, exact: bool, quiet: bool) -> None:
        self._seed, self._held_out = run.config.seed, read_tensors(run.folder.held_out)[0]
        self._heard = _Heard()
        choice = run.config.reference
        if not exact or choice is None:
            self._sampler = run.sampler
        elif quiet or run.reference is None:
            self._sampler = run.make_reference(choice, self._heard)
        else:
            self._sampler = run.reference

    def __call__(self, chunk: Chunk) -> list[str]:
        """Draw a chunk; what the sampler said of it."""
        chunk.save(chunk.draw(self._sampler, self._held_out, self._seed))
        return self._heard.lines()


class _Heard(QuietMonitor):
    """Keeps the lines that it is told."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def say(self, text: str) -> None:
        """Keep the line."""
        self._lines.append(text)

    def lines(self) -> list[str]:
        """The lines since this was asked for last."""
        lines, self._lines = self._lines, []
        return lines


def draw_chunks(run: Run, chunks: Sequence[Chunk], advance: Callable[[int], None], *, exact: bool) -> None:
    """Draw and write chunks.

    Args:
        run: the run.
        chunks: which.
        advance: told the number of draws of each that is done.
        exact: whether the reference draws, or the fitted sampler.

    Raises:
        DeviceError: the workers die of a chunk.
    """
    if not chunks:
        return
    if run.drawers == 1 or len(chunks) == 1:
        drawer = Drawer(run, exact=exact, quiet=False)
        for chunk in chunks:
            drawer(chunk)
            advance(chunk.size)
        return
    where = run.folder.path.absolute(), run.device.type, run.devices.precision
    recipe = Recipe(_make, (*where, exact, holding(run.config.chosen())))
    tasks = (Task(chunk, _absolute(chunk)) for chunk in chunks)
    with run.open_drawers(recipe) as pool:
        for result in pool.run(tasks):
            if isinstance(result, Lost):
                raise _lost(result)
            for line in result.value:
                run.monitor.say(line)
            advance(result.task.key.size)


def _make(folder: Path, device: str, precision: str, exact: bool, plugins: tuple[Held, ...]) -> Drawer:
    """The drawer of a worker."""
    hold(plugins)
    opened = RunFolder(folder, read_whole_config(folder / "run.yaml"))
    products = Devices(precision=precision)
    run = Run(opened, ConsoleMonitor(Console(quiet=True)), torch.device(device), devices=products)
    return Drawer(run, exact=exact, quiet=True)


def _absolute(chunk: Chunk) -> Chunk:
    return replace(chunk, path=chunk.path.absolute())


def _lost(result: Lost) -> DeviceError:
    chunk: Chunk = result.task.key
    return DeviceError(
        f"Workers die while they draw for the observations {chunk.first} to {chunk.last - 1}.",
        where="workers",
        got=result.words,
        fix="if memory ran out, use fewer workers; the same command goes on from the chunks that are done",
    )
