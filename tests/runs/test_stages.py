"""Whole runs with toys: every stage, an interrupt at each of them, and what comes of damage."""

from __future__ import annotations

import io
import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from rich.console import Console
from safetensors.torch import load_file, save_file

from sbikit.problem.errors import (
    DeviceError,
    ObservationError,
    OptionError,
    RunFolderError,
    SimulationError,
    UnsupportedError,
)
from sbikit.roles.evidence import Evidence
from sbikit.roles.trust import Trust
from sbikit.runs import work
from sbikit.runs.config import load_config
from sbikit.runs.console_monitor import ConsoleMonitor
from sbikit.runs.devices import choose_device
from sbikit.runs.draft import Overrides
from sbikit.runs.folder import RunFolder
from sbikit.runs.job import Run
from sbikit.runs.new_data import exact, fitted, sample_observation
from sbikit.runs.stages import run_stages
from sbikit.simulations.stream import Simulations
from sbikit.storage.draws import read_trust
from sbikit.storage.files import read_json_lines
from sbikit.storage.metrics import read_compared, read_metrics
from sbikit.storage.read import read_posterior
from sbikit.storage.training_log import TrainingLog
from sbikit.testing import GaussianVector

SMALL = (
    "sampling.observations=40",
    "sampling.draws=8",
    "sampling.shown_draws=50",
    "sampling.reference_draws=30",
)


@pytest.fixture
def start(toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    """A run in tmp_path/run, as the command line would start it; its report is a stand-in."""

    def report(run: Run) -> list[Path]:
        path = run.folder.path / "report.html"
        path.write_text(str(len(run.folder.metrics.read_text())))
        return [path]

    monkeypatch.setattr(work, "report", report)

    def make(*assignments: str, simulator: str = "toy", reference: str | None = "toy-exact") -> Run:
        overrides = Overrides(
            simulator, "toy-linear", ("toy-mean",), reference, assignments=(*SMALL, *assignments)
        )
        folder = RunFolder.create(tmp_path / "run", load_config(overrides=overrides))
        monitor = ConsoleMonitor(Console(file=io.StringIO()), folder.log, folder.training)
        return Run(folder, monitor, torch.device("cpu"), "sbikit run")

    return make


def trace(folder: Path) -> list[str]:
    path = folder / "trace"
    return path.read_text().splitlines() if path.exists() else []


def works(run: Run) -> Counter[str]:
    """What the toys did, simulations apart."""
    return Counter(line for line in trace(run.folder.path.parent) if line != "simulate")


ALL_WORK = Counter(
    {
        **{f"fit {step}": 1 for step in range(4)},
        "reference 16x30": 1,
        "sample 16x8": 2,
        "sample 8x8": 1,
        "sample 4x15": 4,
        "sample 1x50": 1,
        "validate": 1,
        "compare 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15": 1,
    }
)


def test_a_run_leaves_everything_in_its_folder(start: Callable[..., Run]) -> None:
    run = start()
    run_stages(run)
    folder = run.folder.path
    names = {file.name for file in folder.iterdir() if not file.name.startswith(".")}
    assert {
        "run.yaml",
        "provenance.json",
        "checkpoints",
        "posterior.nc",
        "metrics.json",
        "training.jsonl",
        "report.html",
        "run.log",
        "heldout.safetensors",
        "reference.safetensors",
        "compared.safetensors",
        "stages.json",
    } <= names
    assert "parts" not in names
    assert not (folder / "checkpoints" / "unfinished").exists()
    assert works(run) == ALL_WORK
    assert [report.validator for report in read_metrics(run.folder.metrics)] == ["toy-mean", "toy-agreement"]
    assert read_compared(run.folder.metrics) == {"toy-agreement"}


def test_posterior_holds_the_held_out_stream_and_its_draws(start: Callable[..., Run]) -> None:
    run = start()
    run_stages(run)
    held_out = Simulations(GaussianVector(), 0).held_out(0, 40)
    found = read_posterior(run.folder.posterior)
    assert found.held_out is not None
    assert found.truth is not None
    assert found.reference is not None
    np.testing.assert_array_equal(found.held_out.truth["theta"], held_out["theta"])
    np.testing.assert_array_equal(found.held_out.observed["x"], held_out["x"])
    np.testing.assert_array_equal(found.truth["theta"], held_out["theta"][0])
    assert found.held_out.draws["theta"].shape == (8, 40, 2)
    assert (found.posterior["theta"].shape, found.reference["theta"].shape) == ((50, 2), (30, 2))
    exact = GaussianVector().exact_sampler().mean({"x": held_out["x"]})
    error = found.held_out.draws["theta"].mean(0) - exact
    assert float(error.abs().mean()) < 0.3  # 8 draws of sd 0.4 and 0.7


def test_provenance_says_what_made_it(start: Callable[..., Run]) -> None:
    run = start("seed=7")
    run_stages(run)
    found = json.loads(run.folder.provenance.read_text())
    assert (found["seed"], found["device"], found["command"]) == (7, "cpu", "sbikit run")
    assert found["simulations"] == 2000
    assert set(found["timings"]) == {"simulate", "fit", "reference", "sample", "validate", "report"}
    assert found["versions"]["torch"] == torch.__version__
    assert found["versions"]["sbikit-toybox"] == "1.0"
    assert 50 < found["peak_memory_mb"] < 4000
    assert found["started"] <= found["finished"]


def test_the_same_run_again_does_nothing(start: Callable[..., Run]) -> None:
    run_stages(start())
    before = start().folder.posterior.read_bytes()
    run = start()
    run_stages(run)
    assert works(run) == ALL_WORK
    assert run.folder.posterior.read_bytes() == before


@pytest.mark.parametrize(
    "stop",
    [
        "fit 0",
        "fit 2",
        "reference 16x30",
        "sample 16x8",
        "sample 8x8",
        "sample 4x15",
        "sample 1x50",
        "validate",
    ],
)
def test_an_interrupted_run_goes_on_and_repeats_nothing(
    start: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stop: str
) -> None:
    monkeypatch.setenv("TOY_STOP", stop)
    with pytest.raises(KeyboardInterrupt):
        run_stages(start())
    monkeypatch.delenv("TOY_STOP")
    run = start()
    run_stages(run)
    assert works(run) == ALL_WORK + Counter([stop])
    assert [record["step"] for record in read_json_lines(run.folder.training)[0]] == [0, 1, 2, 3]
    interrupted = read_posterior(run.folder.posterior)
    (tmp_path / "run").rename(tmp_path / "interrupted")
    straight = start()
    run_stages(straight)
    expected = read_posterior(straight.folder.posterior)
    np.testing.assert_array_equal(interrupted.posterior["theta"], expected.posterior["theta"])
    assert interrupted.held_out is not None
    assert expected.held_out is not None
    np.testing.assert_array_equal(interrupted.held_out.draws["theta"], expected.held_out.draws["theta"])


def test_an_interrupt_between_two_parts_keeps_the_first(
    start: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_STOP", "sample 8x8")
    with pytest.raises(KeyboardInterrupt):
        run_stages(start())
    run = start()
    assert works(run)["sample 16x8"] == 2
    part = run.folder.parts / "sample" / "00016-00032.safetensors"
    part.write_bytes(part.read_bytes()[:-40])
    monkeypatch.delenv("TOY_STOP")
    run_stages(run)
    assert works(run)["sample 16x8"] == 3  # the damaged part alone is drawn again


def test_draws_do_not_depend_on_chunks(start: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    run_stages(start())
    before = read_posterior(start().folder.posterior)
    reference = load_file(start().folder.reference)["theta"]
    shutil.rmtree(start().folder.path)
    for name, size in (("SAMPLE_CHUNK", 7), ("REFERENCE_CHUNK", 3), ("COMPARED_CHUNK", 5)):
        monkeypatch.setattr(work, name, size)
    run = start()
    run_stages(run)
    assert works(run)["sample 7x8"] == 5
    after = read_posterior(run.folder.posterior)
    assert before.held_out is not None
    assert after.held_out is not None
    np.testing.assert_array_equal(after.held_out.draws["theta"], before.held_out.draws["theta"])
    assert torch.equal(load_file(run.folder.reference)["theta"], reference)


def test_damage_is_mended_from_where_it_is(start: Callable[..., Run]) -> None:
    run_stages(start())
    run = start()
    (run.folder.estimator / "weights.safetensors").write_bytes(b"x")
    run_stages(run)
    assert works(run)["fit 0"] == 2
    assert works(run)["reference 16x30"] == 1
    validated = works(run)["validate"]  # once more, unless the fit made again is the same to the bit
    again = start()
    again.folder.metrics.unlink()
    run_stages(again)
    assert works(again)["fit 0"] == 2
    assert works(again)["validate"] == validated + 1


def test_one_stage_at_a_time(start: Callable[..., Run]) -> None:
    run = start()
    with pytest.raises(RunFolderError, match="'sample' comes after 'simulate'") as caught:
        run_stages(run, ["sample"])
    assert caught.value.fix == f"sbikit simulate {run.folder.path}"
    for names in (["simulate"], ["fit"], ["reference", "sample"], ["validate"], ["report"]):
        run_stages(start(), names)
    assert works(run) == ALL_WORK
    other = start()
    (other.folder.path / "stages.json").unlink()
    with pytest.raises(RunFolderError, match="no trained posterior"):
        fitted(other)


def test_new_data_are_drawn_with_the_trained_posterior(start: Callable[..., Run], tmp_path: Path) -> None:
    run = start()
    run_stages(run, ["simulate", "fit"])

    def drawn(run: Run, file: str, draws: int, out: str) -> None:
        sample_observation(
            run, fitted(run), name="toy-linear", file=tmp_path / file, draws=draws, out=tmp_path / out
        )

    xr.Dataset({"x": ("n", [1.0, 2.0, 3.0])}).to_netcdf(tmp_path / "obs.nc", engine="h5netcdf")
    drawn(run, "obs.nc", 25, "out.nc")
    found = read_posterior(tmp_path / "out.nc")
    assert found.posterior["theta"].shape == (25, 2)
    assert (found.truth, found.sampler, found.trust) == (None, "toy-linear", Trust())
    xr.Dataset({"x": ("n", [1.0, 2.0])}).to_netcdf(tmp_path / "short.nc", engine="h5netcdf")
    with pytest.raises(ObservationError, match="wrong shape"):
        drawn(run, "short.nc", 25, "no.nc")


@pytest.mark.parametrize(
    ("mode", "message", "where"),
    [
        ("raises", "raised ValueError: no solution [here]", "draw "),
        ("nan", "values of 'x' that are not finite", "draw "),
        ("shape", "'x' in the wrong shape", "draws 0 to 31"),
    ],
)
def test_a_simulator_that_fails_names_the_draw_and_its_parameters(
    start: Callable[..., Run], mode: str, message: str, where: str
) -> None:
    with pytest.raises(SimulationError) as caught:
        run_stages(start(f"simulator.mode={mode}", "simulations.max_failures=0.0"))
    assert message in caught.value.message
    assert where in caught.value.where
    if mode != "shape":
        assert "a=" in caught.value.where
        assert "b=" in caught.value.where


def test_what_cannot_work_is_refused_before_any_work(start: Callable[..., Run]) -> None:
    run = start(simulator="toy-plain")
    with pytest.raises(UnsupportedError, match="no density"):
        run_stages(run)
    assert trace(run.folder.path.parent) == []


def test_a_partial_posterior_is_announced_and_summaries_kept(start: Callable[..., Run]) -> None:
    run = start("simulator.size=4", simulator="toy-field", reference=None)
    run.prepare()
    assert "toy-linear infers theta and leaves out field" in run.folder.log.read_text()
    noted = json.loads(run.folder.provenance.read_text())
    assert noted["inferred"] == ["theta"]
    assert noted["facts"] == {"Pixels a side": "4", "Noise": "white <as snow>"}


# --- the reference --------------------------------------------------------------------------


def diagnosed(start: Callable[..., Run], doubtful: float = 1e9, *, observations: int = 6) -> Run:
    """A run whose reference doubts its draws of observations whose data sum up to more than `doubtful`."""
    return start(
        f"reference.doubtful={doubtful}",
        f"sampling.reference_observations={observations}",
        reference="toy-chains",
    )


def test_the_reference_is_drawn_for_many_observations_at_once(
    start: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = (
        "sampling.observations=36",
        "sampling.reference_observations=36",
        "sampling.reference_draws=31",
    )
    monkeypatch.setenv("TOY_STOP", "reference 4x31")
    with pytest.raises(KeyboardInterrupt):
        run_stages(start(*settings))
    monkeypatch.delenv("TOY_STOP")
    run = start(*settings)
    run_stages(run)
    assert works(run)["reference 32x31"] == 1
    assert works(run)["reference 4x31"] == 2
    exact, drawn = load_file(run.folder.reference)["theta"], load_file(run.folder.compared)["theta"]
    assert (exact.shape, drawn.shape) == ((31, 36, 2), (15, 36, 2))
    mean = GaussianVector().exact_sampler().mean({"x": load_file(run.folder.held_out)["x"][:36]})
    for draws in (exact, drawn):
        assert float((draws.mean(0) - mean).abs().mean()) < 0.2  # 15 draws of sd 0.4 and 0.7


def test_the_comparison_holds_what_can_be_trusted(
    start: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Evidence] = []
    run = diagnosed(start, 1.0)
    validator = run.validators[1]
    validate = type(validator).validate
    monkeypatch.setattr(
        type(validator),
        "validate",
        lambda self, evidence, seed: given.append(evidence) or validate(self, evidence, seed=seed),
    )
    run_stages(run)
    found = given[0].comparison
    assert found is not None
    assert (found.name, found.rows) == ("toy-chains", (0, 2, 4, 5))
    assert (found.exact["theta"].shape, found.draws["theta"].shape) == ((30, 4, 2), (15, 4, 2))
    stored = load_file(run.folder.reference)["theta"]
    assert torch.equal(found.exact["theta"], stored[:, [0, 2, 4, 5]])
    assert torch.equal(found.draws["theta"], load_file(run.folder.compared)["theta"][:, [0, 2, 4, 5]])


def test_what_is_not_to_be_trusted_is_named(start: Callable[..., Run]) -> None:
    run = diagnosed(start, 1.0)
    run_stages(run)
    told = run.folder.log.read_text()
    assert (
        "toy-chains: not to be called exact for 2 of 6 observations (1, 3): "
        "R-hat 1.2 and 1 not finite (wanted at most 1.1), steps 7"
    ) in told
    assert "toy-chains: to be trusted for 4 of 6 observations: R-hat 1 (wanted at most 1.1), steps 7" in told
    kept = read_trust(run.folder.reference)
    assert [one.trustworthy for one in kept] == [True, False, True, False, True, True]
    assert (kept[1].value("R-hat"), kept[3].readings[0].value) == (1.2, None)
    assert kept[1].complaints == ("R-hat is too large",)


def test_draws_that_are_not_to_be_trusted_are_no_reference(start: Callable[..., Run]) -> None:
    run = diagnosed(start, 1.0)
    run_stages(run)
    assert read_posterior(run.folder.posterior).reference is not None
    shutil.rmtree(run.folder.path)
    run = diagnosed(start, -3.0)
    run_stages(run)
    assert read_posterior(run.folder.posterior).reference is None


def test_without_trust_the_comparison_is_left_out(start: Callable[..., Run]) -> None:
    run = diagnosed(start, -1.0, observations=3)
    run_stages(run)
    assert not [line for line in works(run) if line.startswith("compare")]
    assert [report.validator for report in read_metrics(run.folder.metrics)] == ["toy-mean"]
    assert read_compared(run.folder.metrics) == frozenset()
    told = run.folder.log.read_text()
    assert (
        "validate: toy-agreement is left out, because toy-chains is to be trusted for 1 of 3 observations, "
        "and 2 are needed"
    ) in told


def test_another_reference_is_judged_anew(start: Callable[..., Run]) -> None:
    run = diagnosed(start)
    run_stages(run)
    run.folder.reference.unlink()
    again = diagnosed(start)
    run_stages(again)
    assert works(again)["reference 6x30"] == 2
    damaged = diagnosed(start)
    save_file(load_file(run.folder.reference), run.folder.reference)  # without what it says of itself
    damaged.folder.ledger.finish("reference", ["simulate"], [run.folder.reference])
    with pytest.raises(RunFolderError, match="Draws cannot be read") as caught:
        run_stages(damaged)
    assert "delete the file" in caught.value.fix


def test_a_reference_that_infers_less_is_refused(start: Callable[..., Run]) -> None:
    run = start("simulator.size=4", simulator="toy-field", reference="toy-blind")
    with pytest.raises(UnsupportedError, match="does not infer all that 'toy-linear' infers") as caught:
        run_stages(run)
    assert (caught.value.expected, caught.value.got) == ("theta", "field")


def test_new_data_are_drawn_with_the_reference_of_a_run_that_never_ran(
    start: Callable[..., Run], tmp_path: Path
) -> None:
    np.save(tmp_path / "obs.npy", np.array([1.0, 2.0, 3.0]))
    run = diagnosed(start, 1.0)
    file, out = tmp_path / "obs.npy", tmp_path / "out.nc"
    (trust,) = sample_observation(run, exact(run), name="toy-chains", file=file, draws=400, out=out)
    assert (trust.trustworthy, trust.readings[0].value) == (False, None)
    with xr.open_datatree(tmp_path / "out.nc", engine="h5netcdf") as tree:
        assert set(tree.children) == {"posterior", "observed_data"}
        kept = tree["posterior"].attrs
        assert (kept["sampler"], json.loads(kept["trust"])["trustworthy"]) == ("toy-chains", False)
    assert read_posterior(tmp_path / "out.nc").trust == trust
    found = read_posterior(tmp_path / "out.nc").posterior["theta"]
    oracle = GaussianVector().exact_sampler()
    mean = oracle.mean({"x": torch.tensor([[1.0, 2.0, 3.0]])})[0].numpy()
    error = np.sqrt(np.diag(oracle.covariance.numpy()) / 400)
    assert (np.abs(found.mean(0) - mean) < 4 * error).all()
    (tmp_path / "run").rename(tmp_path / "other")
    with pytest.raises(OptionError, match="no reference sampler"):
        exact(start(reference=None))


def test_an_absent_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto").type == choose_device("cpu").type == "cpu"
    with pytest.raises(DeviceError, match="no GPU"):
        choose_device("cuda")
    with pytest.raises(DeviceError, match="no such device"):
        choose_device("gpu")


# --- progress -------------------------------------------------------------------------------


def test_the_training_log_never_goes_backwards(tmp_path: Path) -> None:
    path = tmp_path / "training.jsonl"
    log = TrainingLog(path)
    for step in (0, 10, 20):
        log.append({"step": step, "loss": 1.0})
        log.append({"step": step, "validation_loss": 2.0})
    with path.open("a") as file:
        file.write('{"step": 30, "lo')  # cut short by a crash
    resumed = TrainingLog(path)
    resumed.append({"step": 20, "loss": 3.0})
    assert [(r["step"], r.get("loss")) for r in read_json_lines(path)[0]] == [
        (0, 1.0),
        (0, None),
        (10, 1.0),
        (10, None),
        (20, 3.0),
    ]
    resumed.append({"step": 10, "loss": 4.0})
    assert [r["step"] for r in read_json_lines(path)[0]] == [0, 0, 10]


def test_progress_without_a_terminal_is_plain_lines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    now = [0.0]
    monkeypatch.setattr("sbikit.runs.console_monitor.time.monotonic", lambda: now[0])
    out = io.StringIO()
    monitor = ConsoleMonitor(Console(file=out, width=40), log_file=tmp_path / "run.log")
    with monitor.progress("training", 100, 20) as advance:
        for _ in range(80):
            now[0] += 0.5
            advance(1)
    lines = out.getvalue().splitlines()
    assert lines[0] == "training: 40 of 100 (40 %), 2/s, 0:00:30 left"
    assert lines[-1] == "training: done in 0:00:40"
    assert len(lines) == 4
    assert "\x1b" not in out.getvalue()
    assert "(40 %)" in (tmp_path / "run.log").read_text()


def test_progress_on_a_terminal_has_nested_bars() -> None:
    out = io.StringIO()
    monitor = ConsoleMonitor(Console(file=out, force_terminal=True, width=100))
    with monitor.progress("outer", 2) as outer, monitor.progress("inner", 3) as inner:
        inner(3)
        outer(1)
    assert "outer" in out.getvalue()
    assert "3/3" in out.getvalue()
    with monitor.progress("again", 1) as advance:
        advance(1)
    assert "again" in out.getvalue()
