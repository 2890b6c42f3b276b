"""Posteriors drawn by workers: what one process draws, a chunk each, and none drawn twice."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from sbikit.runs.config import load_config
from sbikit.runs.console_monitor import ConsoleMonitor
from sbikit.runs.draft import Overrides
from sbikit.runs.folder import RunFolder
from sbikit.runs.job import Run
from sbikit.runs.stages import run_stages
from sbikit.storage.draws import read_trust
from sbikit.storage.read import read_posterior
from sbikit.workers.places import Place

SMALL = (
    "sampling.observations=10",
    "sampling.draws=8",
    "sampling.shown_draws=50",
    "sampling.reference_draws=30",
    "sampling.reference_observations=6",
    "reference.doubtful=1.0",
)
STAGES = ("simulate", "keep", "fit", "reference", "sample")


@pytest.fixture
def start(toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    """A run in tmp_path/NAME with so many workers; what its toys do is written to tmp_path/NAME.trace."""

    def make(name: str, workers: int) -> Run:
        monkeypatch.setenv("TOY_TRACE", str(tmp_path / f"{name}.trace"))
        overrides = Overrides("toy", "toy-linear", ("toy-mean",), "toy-chains", assignments=SMALL)
        folder = RunFolder.create(tmp_path / name, load_config(overrides=overrides))
        monitor = ConsoleMonitor(Console(file=io.StringIO()), folder.log, folder.training)
        return Run(folder, monitor, torch.device("cpu"), "sbikit run", Place(workers))

    return make


def drawn(run: Run) -> Counter[str]:
    lines = run.folder.path.with_suffix(".trace").read_text().splitlines()
    return Counter(line for line in lines if line.startswith(("reference", "sample")))


def test_workers_draw_what_one_process_draws(start: Callable[..., Run]) -> None:
    one = start("one", 1)
    run_stages(one, STAGES)
    assert drawn(one) == Counter(
        {"reference 6x30": 1, "sample 10x8": 1, "sample 4x15": 1, "sample 2x15": 1, "sample 1x50": 1}
    )
    two = start("two", 2)
    run_stages(two, STAGES)
    assert drawn(two) == Counter(
        {"reference 3x30": 2, "sample 5x8": 2, "sample 4x15": 1, "sample 2x15": 1, "sample 1x50": 1}
    )
    for name in ("reference", "compared"):
        mine, other = (load_file(run.folder.path / f"{name}.safetensors") for run in (two, one))
        assert mine.keys() == other.keys()
        for key, value in other.items():
            assert torch.equal(mine[key], value)
    trust = [read_trust(run.folder.reference) for run in (one, two)]
    assert trust[0] == trust[1]
    assert {one.trustworthy for one in trust[0]} == {True, False}
    found = [read_posterior(run.folder.posterior) for run in (one, two)]
    assert found[0].held_out is not None
    assert found[1].held_out is not None
    assert (found[0].held_out.draws["theta"] == found[1].held_out.draws["theta"]).all()
    assert (found[0].posterior["theta"] == found[1].posterior["theta"]).all()


def test_what_a_worker_raises_ends_the_stage_and_no_chunk_is_drawn_twice(
    start: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start("run", 2)
    monkeypatch.setenv("TOY_CRASH", "sample 1x50")  # the last
    with pytest.raises(RuntimeError, match="the toy crashed"):
        run_stages(run, STAGES)
    monkeypatch.delenv("TOY_CRASH")
    before, left = drawn(run), list((run.folder.parts / "sample").iterdir())
    again = start("run", 2)
    run_stages(again, STAGES)
    assert before["reference 3x30"] == drawn(again)["reference 3x30"] == 2
    assert drawn(again)["sample 5x8"] == before["sample 5x8"] + 2 - len(left)
    assert drawn(again)["sample 1x50"] == before["sample 1x50"] + 1
