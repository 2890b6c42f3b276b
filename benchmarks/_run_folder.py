"""A trained run, for benchmarks of it: its problem and its sampler, as its run.yaml names them."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from sbikit import Field, Simulations, Spec, Vector
from sbikit.runs import Run, RunFolder
from sbikit.runs.console_monitor import ConsoleMonitor
from sbikit.runs.devices import choose_device


def opened(folder: Path, device: str | None = None) -> Run:
    """The run in a folder; progress goes to standard error alone.

    Args:
        folder: the run folder.
        device: where networks run; what its run.yaml says where left out.
    """
    place = RunFolder.open(folder)
    monitor = ConsoleMonitor(Console(stderr=True))
    return Run(place, monitor, choose_device(device or place.config.device))


def streams(run: Run) -> Simulations:
    """Training and held-out streams of the run's seed, which leave no trace in its folder."""
    kept = run.config.simulations
    return Simulations(run.simulator, run.config.seed, max_failures=kept.max_failures, timeout=kept.timeout)


def vector_and_field(spec: Spec) -> tuple[Vector, Field]:
    """The latents of a problem that has one vector and one field."""
    (vector,), (field,) = spec.vectors, spec.fields
    return vector, field
