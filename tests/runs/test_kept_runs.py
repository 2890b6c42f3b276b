"""Whole runs on kept simulations: growth, interruption, loss, failures, sharing, and what a run advises."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from sbikit.problem.errors import RunFolderError, SimulationError, StoreError
from sbikit.runs import pace, work
from sbikit.runs.config import load_config
from sbikit.runs.console_monitor import ConsoleMonitor
from sbikit.runs.draft import Overrides
from sbikit.runs.folder import RunFolder
from sbikit.runs.job import Run
from sbikit.runs.stages import run_stages
from sbikit.simulations.stream import Simulations

SMALL = ("sampling.observations=40", "sampling.draws=8", "sampling.shown_draws=50", "estimator.steps=1")
Start = Callable[..., Run]


@pytest.fixture
def start(toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """A run in tmp_path/NAME on 600 kept simulations, as the command line would start it."""

    def report(run: Run) -> list[Path]:
        path = run.folder.path / "report.html"
        path.write_text(run.folder.metrics.read_text())
        return [path]

    monkeypatch.setattr(work, "report", report)

    def make(*assignments: str, name: str = "run", count: int | None = 600, **more: object) -> Run:
        overrides = Overrides(
            "toy",
            "toy-linear",
            ("toy-mean",),
            simulations=count,
            assignments=(*SMALL, *assignments),
            **more,  # type: ignore[arg-type]
        )
        return opened(RunFolder.create(tmp_path / name, load_config(overrides=overrides)))

    return make


def opened(folder: RunFolder) -> Run:
    monitor = ConsoleMonitor(Console(file=io.StringIO()), folder.log, folder.training)
    return Run(folder, monitor, torch.device("cpu"), "sbikit run")


def simulate(run: Run, count: int | None = None) -> Run:
    """`sbikit simulate DIR --simulations COUNT`."""
    again = opened(RunFolder.open(run.folder.path).keeping(count, None))
    run_stages(again, ("simulate", "keep"), growing=True)
    return again


def calls(toys: Path) -> int:
    path = toys.parent / "trace"
    return path.read_text().split().count("simulate") if path.exists() else 0


def record(run: Run) -> dict[str, object]:
    found: dict[str, object] = json.loads(run.folder.kept.read_text())
    return found


def test_a_run_on_kept_simulations_ends_in_a_report(start: Start, toys: Path) -> None:
    run = start()
    run_stages(run)
    assert run.folder.path.joinpath("report.html").exists()
    assert record(run)["good"] == record(run)["count"] == 600
    kept, endless = start().simulations, Simulations(run.simulator, 0)
    assert kept.size == 600
    for name, value in endless.training(0, 600).items():
        assert torch.equal(kept.training(0, 600)[name], value)
    before = calls(toys)
    run_stages(start())
    assert calls(toys) == before


def test_more_are_kept_and_the_fit_is_not_mixed(start: Start, toys: Path) -> None:
    run = start()
    run_stages(run)
    posterior = run.folder.posterior.read_bytes()
    before = calls(toys)
    more = simulate(run, 900)
    assert calls(toys) - before == 2  # 168 rows of a chunk of 256, and a whole one more or less
    assert record(more)["good"] == 900
    with pytest.raises(RunFolderError, match=r"not what the stage 'fit'") as refusal:
        run_stages(opened(RunFolder.open(run.folder.path)))
    assert "simulations.count: 600 when it was made, 900 now" in refusal.value.got
    assert "--redo" in refusal.value.fix
    assert run.folder.posterior.read_bytes() == posterior
    run_stages(opened(RunFolder.open(run.folder.path)), redo=True)
    assert opened(RunFolder.open(run.folder.path)).simulations.size == 900


def test_an_interrupted_fill_goes_on(start: Start, toys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = start()
    run_stages(run, ("simulate",))
    quiet = start(name="quiet")
    run_stages(quiet, ("simulate", "keep"))
    monkeypatch.setenv("TOY_STOP", "simulate")
    with pytest.raises(KeyboardInterrupt):
        run_stages(start())
    monkeypatch.delenv("TOY_STOP")
    run_stages(start())
    assert record(run) == record(quiet)


def test_lost_simulations_are_drawn_again_where_they_are_needed(start: Start, toys: Path) -> None:
    run = start()
    run_stages(run, ("simulate", "keep"))
    before, drawn = record(run), calls(toys)
    (run.folder.store / "status/c.0").unlink()
    with pytest.raises(RunFolderError, match="'fit' comes after 'keep'") as refusal:
        run_stages(start(), ("fit",))
    assert refusal.value.fix == f"sbikit simulate {run.folder.path}"
    run_stages(start())
    assert record(run) == before
    assert calls(toys) > drawn
    shutil.rmtree(run.folder.store)
    drawn = calls(toys)
    run_stages(start())
    run.folder.metrics.unlink()  # judged anew, without what was trained on
    run_stages(start())
    assert calls(toys) == drawn
    assert not run.folder.store.exists()
    simulate(run)
    assert record(run) == before
    assert run.folder.store.exists()


def test_damage_ends_the_fit_and_simulate_mends_it(start: Start, toys: Path) -> None:
    run = start()
    run_stages(run, ("simulate", "keep"))
    before, file = record(run), run.folder.store / "values/x/c.1.0"
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    file.write_bytes(content)
    with pytest.raises(StoreError, match="draw 256 is not as it was written"):
        run_stages(start())
    assert "1 draws are damaged" in simulate(run).folder.log.read_text()
    assert record(run) == before
    run_stages(start())


def test_runs_share_a_store(start: Start, toys: Path, tmp_path: Path) -> None:
    shared = str(tmp_path / "shared.zarr")
    run_stages(start(name="one", store=shared))
    before = calls(toys)
    other = start(name="two", store=shared, seed=3)
    run_stages(other, ("simulate", "keep", "fit"))
    assert calls(toys) - before == 4  # 40 held-out draws in two calls, and two that check their seeds
    assert record(other) == record(start(name="one", store=shared))
    assert not other.folder.path.joinpath("simulations.zarr").exists()
    with pytest.raises(StoreError, match="made by something else") as refusal:
        run_stages(start("simulator.scale=2.0", name="three", store=shared))
    assert refusal.value.got == "simulator.scale: 1.0 there, 2.0 asked for"
    with pytest.raises(StoreError, match="made by something else") as refusal:
        run_stages(start("simulations.timeout=60.0", name="four", store=shared), ("simulate", "keep"))
    assert refusal.value.got == "simulations.timeout: null there, 60.0 asked for"


def test_redo_drops_the_simulations_of_other_options(start: Start, toys: Path) -> None:
    run = start()
    run_stages(run, ("simulate", "keep"))
    text = (run.folder.path / "run.yaml").read_text()
    (run.folder.path / "run.yaml").write_text(text.replace("scale: 1.0", "scale: 2.0"))
    with pytest.raises(RunFolderError, match="not what the stage 'simulate'"):
        run_stages(opened(RunFolder.open(run.folder.path)))
    run_stages(opened(RunFolder.open(run.folder.path)), redo=True)
    assert record(run)["good"] == 600


def test_failing_draws_are_left_out_and_told(start: Start, toys: Path) -> None:
    run = start("simulator.mode=nan", "simulations.max_failures=0.3")
    run_stages(run)
    seeds = np.fromfile(run.folder.store / "seed/c.0", dtype="<i8")[:600]
    failed = int((seeds % 7 == 0).sum())
    assert record(run)["failures"] == {"not finite": failed}
    assert record(run)["good"] == 600 - failed
    told = json.loads(run.folder.failed_draws.read_text())
    for one in told["where"].values():
        assert sum(one["tried"]) == 600
        assert sum(one["failed"]) == failed
    held_out = json.loads(run.folder.left_out_noted.read_text())
    assert held_out["tried"] == 40 + held_out["failures"]["not finite"]


def test_too_many_failures_end_the_run_and_nothing_is_lost(start: Start, toys: Path) -> None:
    bad = ("simulator.mode=raises", "simulations.max_failures=0.01")
    run = start(*bad, "sampling.observations=2")
    with pytest.raises(SimulationError, match="Too many draws fail") as refusal:
        run_stages(run)
    assert "no solution [here]" in refusal.value.got
    before = calls(toys)
    text = (run.folder.path / "run.yaml").read_text()
    (run.folder.path / "run.yaml").write_text(text.replace("max_failures: 0.01", "max_failures: 0.3"))
    run_stages(opened(RunFolder.open(run.folder.path)), ("simulate", "keep"))
    assert record(run)["count"] == 600
    assert calls(toys) > before


@pytest.mark.parametrize(("seconds", "advised"), [(0.001, False), (30.0, True)])
def test_a_run_says_when_training_would_wait(
    start: Start, monkeypatch: pytest.MonkeyPatch, seconds: float, advised: bool
) -> None:
    run = start(count=None)
    monkeypatch.setattr(type(run.estimator), "draws_wanted", lambda self: 500, raising=False)
    monkeypatch.setattr(pace.os, "cpu_count", lambda: 8)
    run_stages(run, ("simulate",))
    run.provenance.note("seconds_a_draw", seconds)
    pace.advise(run)
    log = run.folder.log.read_text()
    assert (
        "A simulation takes 30 s, and toy-linear asks for 500: 4:10:00 with 1 at a time" in log
    ) == advised
    assert ("takes 0:31:15 with 8 at a time" in log) == advised  # 500 x 30 s / 8
    assert (f"sbikit simulate {run.folder.path} --simulations 500 --workers 8" in log) == advised


def test_the_pace_is_that_of_the_held_out_draws(start: Start) -> None:
    run = start(count=None)
    pace.note_pace(run, 12.0, 40)
    assert run.provenance.noted("seconds_a_draw") == pytest.approx(0.3)
