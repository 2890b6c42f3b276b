"""Disk and memory that are too small are refused before any work is done; what is needed is said."""

from __future__ import annotations

import io
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console

from sbikit.problem.errors import OptionError
from sbikit.runs.config import load_config
from sbikit.runs.console_monitor import ConsoleMonitor
from sbikit.runs.draft import Overrides
from sbikit.runs.folder import RunFolder
from sbikit.runs.job import Run
from sbikit.runs.room import check_room, needed
from sbikit.runs.stages import run_stages

Usage = namedtuple("Usage", "total used free")
A_DRAW = 2 * 4  # bytes: two parameters
SMALL = (
    "sampling.observations=40",
    "sampling.draws=8",
    "sampling.shown_draws=50",
    "sampling.reference_draws=30",
)


@pytest.fixture
def start(toys: Path, tmp_path: Path) -> Callable[..., Run]:
    del toys

    def make(*assignments: str) -> Run:
        overrides = Overrides("toy", "toy-linear", (), "toy-exact", assignments=(*SMALL, *assignments))
        folder = RunFolder.create(tmp_path / "run", load_config(overrides=overrides))
        monitor = ConsoleMonitor(Console(file=io.StringIO()), folder.log, folder.training)
        return Run(folder, monitor, torch.device("cpu"), "sbikit run")

    return make


def free(monkeypatch: pytest.MonkeyPatch, count: float) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**15, 0, count))


def test_what_draws_take_is_their_numbers(start: Callable[..., Run]) -> None:
    run = start()
    reference, sample = needed(run, "reference"), needed(run, "sample")
    assert (reference.kept, reference.parts) == (30 * 16 * A_DRAW, 30 * 16 * A_DRAW)
    draws = (40 * 8 + 50 + 16 * 15) * A_DRAW
    assert (sample.kept, sample.parts) == (draws + 40 * (A_DRAW + 3 * 4), draws)
    assert needed(run, "validate").kept == 0


def test_a_disk_that_is_too_small_is_refused_before_any_work(
    start: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start()
    most = needed(run, "reference").kept + sum((needed(run, "sample").kept, needed(run, "sample").parts))
    free(monkeypatch, most - 1)
    with pytest.raises(OptionError, match="no room on the disk for the draws") as caught:
        run_stages(run)
    assert str(run.folder.path) in caught.value.expected
    assert "--out" in caught.value.fix
    assert not run.folder.held_out.exists()
    free(monkeypatch, most)
    run_stages(run, ["simulate", "fit", "reference", "sample"])
    free(monkeypatch, 0)
    run_stages(start(), ["sample"])  # done: nothing is to be written


def test_much_is_said_beforehand(start: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 5e9)
    few = start()
    check_room(few, ["reference", "sample"])
    assert not few.folder.log.exists()
    shutil.rmtree(few.folder.path)
    many = start("sampling.observations=100000", "sampling.draws=1000")
    check_room(many, ["sample"])
    assert (
        "The draws need 1.6 GB of disk while they are written, and 0.802 GB afterwards; 5 GB are free."
        in many.folder.log.read_text()
    )


def test_what_is_there_of_an_interrupted_run_counts(
    start: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start()
    part = run.folder.parts / "sample" / "00000-00016.safetensors"
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(500))
    most = needed(run, "sample").kept + needed(run, "sample").parts - 500
    free(monkeypatch, most)
    check_room(run, ["sample"])
    free(monkeypatch, most - 1)
    with pytest.raises(OptionError, match="no room"):
        check_room(run, ["sample"])


def test_draws_beyond_memory_are_no_reason_to_refuse(
    start: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start()
    monkeypatch.setattr("sbikit.problem.memory.memory_bytes", lambda: 100 * A_DRAW)
    run.prepare()  # of 40 x 8 draws, 8 and the 50 that are shown are in memory at once
    monkeypatch.setattr("sbikit.problem.memory.memory_bytes", lambda: 45 * A_DRAW)
    with pytest.raises(OptionError, match="no memory") as caught:
        run.prepare()
    assert caught.value.where in ("sampling.shown_draws", "sampling.observations")
