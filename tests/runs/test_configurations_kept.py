"""A stage keeps what it was made with: another run.yaml is refused, and never mixed with what is there."""

from __future__ import annotations

import io
import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from sbikit.problem.errors import RunFolderError
from sbikit.runs import work
from sbikit.runs.config import load_config
from sbikit.runs.console_monitor import ConsoleMonitor
from sbikit.runs.depends import depends_on
from sbikit.runs.draft import Overrides
from sbikit.runs.folder import RunFolder
from sbikit.runs.job import Run
from sbikit.runs.new_data import fitted
from sbikit.runs.stages import run_stages
from sbikit.storage.draws import read_draws
from sbikit.storage.read import read_posterior

SMALL = ("sampling.observations=40", "sampling.draws=8", "sampling.shown_draws=50")


@pytest.fixture
def folder(toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run folder of toys that has only its run.yaml; its report is a stand-in."""

    def report(run: Run) -> list[Path]:
        path = run.folder.path / "report.html"
        path.write_text(run.folder.metrics.read_text())
        return [path]

    monkeypatch.setattr(work, "report", report)
    overrides = Overrides("toy", "toy-linear", ("toy-mean",), assignments=SMALL)
    return RunFolder.create(tmp_path / "run", load_config(overrides=overrides)).path


def job(path: Path) -> Run:
    folder = RunFolder.open(path)
    monitor = ConsoleMonitor(Console(file=io.StringIO()), folder.log, folder.training)
    return Run(folder, monitor, torch.device("cpu"), "sbikit run")


def change(path: Path, old: str, new: str) -> None:
    text = (path / "run.yaml").read_text()
    assert old in text
    (path / "run.yaml").write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "stage", "told"),
    [
        ("seed: 0", "seed: 1", "simulate", "seed: 0 when it was made, 1 now"),
        ("scale: 1.0", "scale: 2.0", "simulate", "simulator.scale: 1.0 when it was made, 2.0 now"),
        ("steps: 4", "steps: 5", "fit", "estimator.steps: 4 when it was made, 5 now"),
        ("  draws: 8", "  draws: 9", "sample", "sampling.draws: 8 when it was made, 9 now"),
    ],
)
def test_a_changed_configuration_is_refused_where_it_matters(
    folder: Path, old: str, new: str, stage: str, told: str
) -> None:
    run_stages(job(folder))
    before = {file: file.read_bytes() for file in folder.rglob("*.safetensors")}
    (folder / "report.html").unlink()
    change(folder, old, new)
    for names in (None, ["report"], ["simulate"]):
        with pytest.raises(RunFolderError, match=f"stage '{stage}'") as caught:
            run_stages(job(folder), names)
        assert told in caught.value.got
        assert "put the value back" in caught.value.fix
        assert "--out" in caught.value.fix
    assert not (folder / "report.html").exists()
    assert {file: file.read_bytes() for file in folder.rglob("*.safetensors")} == before
    change(folder, new, old)
    run_stages(job(folder))
    assert (folder / "report.html").exists()


def test_what_a_stage_does_not_depend_on_may_change(folder: Path) -> None:
    run_stages(job(folder), ["simulate", "fit"])
    change(folder, "  draws: 8", "  draws: 9")
    change(folder, "device: auto", "device: cpu")
    run_stages(job(folder))
    held_out = read_posterior(folder / "posterior.nc").held_out
    assert held_out is not None
    assert held_out.draws["theta"].shape == (9, 40, 2)


def test_unfinished_work_is_not_gone_on_with_by_another_configuration(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_STOP", "fit 2")
    with pytest.raises(KeyboardInterrupt):
        run_stages(job(folder))
    monkeypatch.delenv("TOY_STOP")
    change(folder, "steps: 4", "steps: 6")
    with pytest.raises(RunFolderError, match="stage 'fit'"):
        run_stages(job(folder))


def test_redo_gives_what_a_new_run_gives(folder: Path, tmp_path: Path) -> None:
    run_stages(job(folder))
    change(folder, "steps: 4", "steps: 5")
    run_stages(job(folder), redo=True)
    overrides = Overrides("toy", "toy-linear", ("toy-mean",), assignments=(*SMALL, "estimator.steps=5"))
    fresh = RunFolder.create(tmp_path / "fresh", load_config(overrides=overrides)).path
    run_stages(job(fresh))
    first, second = (read_posterior(path / "posterior.nc").posterior["theta"] for path in (folder, fresh))
    np.testing.assert_array_equal(first, second)
    assert (folder / "metrics.json").read_text() == (fresh / "metrics.json").read_text()
    log = (folder / "run.log").read_text()
    assert "fit: made with another configuration; dropped" in log


def test_new_data_are_not_drawn_by_a_fit_of_another_configuration(folder: Path) -> None:
    run_stages(job(folder), ["fit"])
    assert fitted(job(folder)).spec.latents
    change(folder, "scale: 1.0", "scale: 2.0")
    with pytest.raises(RunFolderError, match=r"simulator\.scale: 1\.0 when it was made, 2\.0 now"):
        fitted(job(folder))


def test_the_content_of_a_file_that_an_option_names_counts(tmp_path: Path) -> None:
    table = tmp_path / "mask.npy"
    np.save(table, np.ones((32, 32), dtype=bool))
    config = load_config(overrides=Overrides(assignments=(f"simulator.mask={{path: {table}}}",)))
    before = depends_on(config, "fit")
    assert before == depends_on(config, "fit")
    np.save(table, np.eye(32, dtype=bool))
    assert before != depends_on(config, "fit")


def test_every_cut_of_a_configuration_is_refused_with_its_place(folder: Path) -> None:
    """Of a file without checksum: no prefix that lacks its last section passes for the whole."""
    file = folder / "run.yaml"
    whole = file.read_text()
    for length in range(0, whole.index("device:") + len("device: aut"), 7):
        file.write_text(whole[:length])
        with pytest.raises(RunFolderError, match="damaged") as caught:
            RunFolder.open(folder)
        place = caught.value.where.split(" ")[0]
        assert place.startswith(f"{file}:")
        assert place.removeprefix(f"{file}:").replace(":", "").isdigit()


@pytest.mark.parametrize("flip", range(0, 400, 9))
def test_a_flipped_byte_in_the_records_is_refused_or_the_stage_done_again(folder: Path, flip: int) -> None:
    run_stages(job(folder), ["simulate"])
    record = folder / "stages.json"
    data = bytearray(record.read_bytes())
    data[flip % len(data)] ^= 1
    record.write_bytes(data)
    before = (folder / "heldout.safetensors").read_bytes()
    with suppress(RunFolderError):
        run_stages(job(folder), ["simulate"])
    assert (folder / "heldout.safetensors").read_bytes() == before


@pytest.mark.parametrize("place", [-1, -40, 100, 300])
def test_a_flipped_byte_in_an_unfinished_part_is_found(
    folder: Path, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    monkeypatch.setenv("TOY_STOP", "sample 8x8")
    with pytest.raises(KeyboardInterrupt):
        run_stages(job(folder))
    monkeypatch.delenv("TOY_STOP")
    part = folder / "parts" / "sample" / "00016-00032.safetensors"
    expected = read_draws(part).values["theta"]
    data = bytearray(part.read_bytes())
    data[place] ^= 1
    part.write_bytes(data)
    run_stages(job(folder))
    held_out = read_posterior(folder / "posterior.nc").held_out
    assert held_out is not None
    np.testing.assert_array_equal(held_out.draws["theta"][:, 16:32], expected)
    assert f"{part} is" in (folder / "run.log").read_text()


def test_a_part_does_not_take_the_place_of_another(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_STOP", "sample 8x8")
    with pytest.raises(KeyboardInterrupt):
        run_stages(job(folder))
    monkeypatch.delenv("TOY_STOP")
    first, second = (folder / "parts" / "sample" / f"{n}.safetensors" for n in ("00000-00016", "00016-00032"))
    expected = read_draws(first).values["theta"]
    first.write_bytes(second.read_bytes())
    run_stages(job(folder))
    held_out = read_posterior(folder / "posterior.nc").held_out
    assert held_out is not None
    np.testing.assert_array_equal(held_out.draws["theta"][:, :16], expected)


def test_a_changed_training_log_is_not_reported(folder: Path) -> None:
    run_stages(job(folder))
    log = folder / "training.jsonl"
    whole = log.read_text()
    (folder / "report.html").unlink()
    for content in (whole.replace("0.5", "0.4"), "", whole[: len(whole) // 2]):
        log.write_text(content)
        with pytest.raises(RunFolderError, match=r"training\.jsonl is damaged"):
            run_stages(job(folder))
    log.unlink()
    run_stages(job(folder))
    assert json.loads((folder / "provenance.json").read_text())["simulations"] == 2000


def test_a_changed_provenance_is_refused(folder: Path) -> None:
    run_stages(job(folder), ["simulate"])
    file = folder / "provenance.json"
    file.write_text(file.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(RunFolderError, match="checksum differs"):
        run_stages(job(folder))
