"""A fit on several devices: the run of one device, and none of its processes left however it ends."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from sbikit.learning import devices
from sbikit.problem.errors import DeviceError, PluginError, SimulationError, UnsupportedError
from sbikit.runs.config import load_config
from sbikit.runs.console_monitor import ConsoleMonitor
from sbikit.runs.devices import check_devices, choose_precision
from sbikit.runs.draft import Overrides
from sbikit.runs.folder import RunFolder
from sbikit.runs.job import Run
from sbikit.runs.stages import run_stages
from sbikit.storage.files import read_json_lines

SMALL = (
    "sampling.observations=4",
    "sampling.draws=8",
    "sampling.shown_draws=20",
    "estimator.steps=100",
    "estimator.batch=5",
    "estimator.guide_simulations=64",
    "estimator.law_simulations=64",
    "estimator.width=16",
    "estimator.depth=1",
    "estimator.heads=2",
)
STAGES = ("simulate", "keep", "fit")


@pytest.fixture
def start(toys: Path, tmp_path: Path) -> Callable[..., Run]:
    """A run in tmp_path/NAME."""

    def make(
        name: str, *assignments: str, estimator: str = "diffusion-transformer", count: int | None = None
    ) -> Run:
        overrides = Overrides(
            "toy", estimator, ("toy-mean",), device="cpu", devices=count, assignments=assignments
        )
        folder = RunFolder.create(tmp_path / name, load_config(overrides=overrides))
        monitor = ConsoleMonitor(Console(file=io.StringIO()), folder.log, folder.training)
        return Run(folder, monitor, torch.device("cpu"), "sbikit run")

    return make


def logged(run: Run) -> list[dict[str, float]]:
    records = read_json_lines(run.folder.training)[0]
    rounds = [record for record in records if "loss" in record]  # and not what looks found
    return [{key: float(record[key]) for key in ("step", "loss", "simulations")} for record in rounds]


def test_two_devices_fit_what_one_fits(start: Callable[..., Run], capfd: pytest.CaptureFixture[str]) -> None:
    one, two = start("one", *SMALL), start("two", *SMALL, count=2)
    for run in (one, two):
        run_stages(run, STAGES)
    assert [record["step"] for record in logged(two)] == [50, 100]
    for mine, other in zip(logged(two), logged(one), strict=True):
        assert mine == pytest.approx(other, rel=1e-4)
    # The validators' simulations: those of guide and law, and each process's share of every step.
    mine, other = (load_file(run.folder.first_draws) for run in (two, one))
    assert len(other["theta"]) == 64 + 64 + 5 * 100
    for name, value in other.items():
        assert torch.equal(mine[name], value)
    path = "checkpoints/estimator"
    files = [sorted(file.name for file in (run.folder.path / path).iterdir()) for run in (one, two)]
    assert files[0] == files[1]
    assert multiprocessing.active_children() == []
    assert "Warning" not in capfd.readouterr().err
    again = start("two", *SMALL, count=1)  # how many they were is no part of what was done
    run_stages(again, STAGES)
    assert "fit: done before" in again.folder.log.read_text()


@pytest.mark.parametrize("stopped_by", [pytest.param("interrupt", marks=pytest.mark.slow), "kill"])
def test_no_process_is_left_and_the_same_command_goes_on(start: Callable[..., Run], stopped_by: str) -> None:
    run = start("run", *SMALL, "device_batch=2", count=2)
    log = run.monitor.log

    def stop(**record: float | int | str) -> None:
        log(**record)
        if stopped_by == "interrupt":
            raise KeyboardInterrupt
        second = next(p for p in multiprocessing.active_children() if p.name == "sbikit rank 1")
        assert second.pid is not None
        os.kill(second.pid, signal.SIGKILL)

    run.monitor.log = stop  # type: ignore[method-assign]
    expected = KeyboardInterrupt if stopped_by == "interrupt" else DeviceError
    with pytest.raises(expected) as refusal:
        run_stages(run, STAGES)
    if isinstance(refusal.value, DeviceError):
        assert (refusal.value.where, refusal.value.got) == ("device 1", "SIGKILL")
    assert multiprocessing.active_children() == []
    again = start("run", *SMALL, "device_batch=null", count=1)
    run_stages(again, STAGES)
    assert [record["step"] for record in logged(again)] == [50, 100]
    assert not again.folder.unfinished.exists()


@pytest.mark.slow
def test_what_a_process_refuses_is_refused(
    start: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start("run", *SMALL, count=2)
    run_stages(run, ("simulate", "keep"))
    monkeypatch.setenv("TOY_CRASH", "simulate")
    with pytest.raises(SimulationError, match="the toy crashed"):
        run_stages(run, ("fit",))
    assert multiprocessing.active_children() == []


def test_an_estimator_that_cannot_divide_its_work_is_refused(start: Callable[..., Run]) -> None:
    for name, run in (
        ("devices", start("a", estimator="toy-linear", count=2)),
        ("device_batch", start("b", "device_batch=7", estimator="toy-linear")),
    ):
        with pytest.raises(UnsupportedError, match="'toy-linear' cannot divide") as refusal:
            run_stages(run, ("simulate",))
        assert refusal.value.where == name


def test_devices_that_are_not_there_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    check_devices(torch.device("cpu"), 64)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_devices(torch.device("cuda"), 2)
    with pytest.raises(DeviceError, match="fewer GPUs") as refusal:
        check_devices(torch.device("cuda"), 3)
    assert refusal.value.fix == "use --devices 2"
    monkeypatch.setattr(devices, "find_spec", lambda name: None)
    check_devices(torch.device("cpu"), 1)
    with pytest.raises(PluginError, match="lightning-fabric"):
        check_devices(torch.device("cpu"), 2)


def test_precision_is_lower_on_a_gpu_that_has_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False, "avx512_f": True})
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    found = [choose_precision(name, device) for device in (gpu, cpu) for name in ("auto", "float32")]
    assert found == [torch.bfloat16, torch.float32, torch.float32, torch.float32]
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert choose_precision("auto", gpu) == torch.float32


@pytest.mark.parametrize("has", ["avx512_bf16", "amx_bf16"])
def test_precision_is_lower_on_a_processor_that_multiplies_in_it(
    has: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False, has: True})
    assert choose_precision("auto", cpu) == torch.bfloat16
    assert choose_precision("float32", cpu) == torch.float32
    monkeypatch.delattr(torch.cpu, "get_capabilities")  # of a torch that cannot say
    assert choose_precision("auto", cpu) == torch.float32
