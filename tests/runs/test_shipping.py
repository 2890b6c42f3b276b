"""What ships of a run: what passed, what is small, and nothing of the machine that trained it."""

from __future__ import annotations

import json
import runpy
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from weights import CHOSEN, SMALL, STAGES, call, finished_run

from sbikit.plugins.hookspecs import Pretrained
from sbikit.problem.errors import OptionError, RunFolderError, UnsupportedError
from sbikit.runs import ship, shipping
from sbikit.runs.config import read_config
from sbikit.runs.pretrained import open_shipped
from sbikit.runs.shipping import largest_file, named_paths
from sbikit.storage.files import read_json
from sbikit.storage.seals import file_digest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "ship.py"


@pytest.fixture
def run(toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run, told by a command with paths of this machine."""
    monkeypatch.setattr(
        sys, "argv", ["sbikit", "run", "--out", str(tmp_path / "a"), f"--store={tmp_path}/kept"]
    )
    return finished_run(tmp_path / "a")


def test_what_ships_is_a_part_of_the_run_and_names_no_machine(run: Path, tmp_path: Path) -> None:
    before = file_digest(run)
    shipped = ship(run, tmp_path / "pretrained" / "toys")
    assert file_digest(run) == before
    for part in ("checkpoints/estimator", "metrics.json", "first-draws.json"):
        assert file_digest(shipped / part) == file_digest(run / part)
    modes = {file.stat().st_mode for file in shipped.rglob("*") if file.is_file()}
    assert modes == {(shipped / "run.yaml").stat().st_mode}, "all who install may read them"
    made = read_json(shipped / "provenance.json")
    assert made["command"] == "sbikit run --out a --store=kept"
    assert (made["seed"], made["versions"]["sbikit-toybox"]) == (0, "1.0")
    assert not {"platform", "peak_memory_mb"} & set(made)
    assert named_paths(shipped) == []
    assert largest_file(shipped).stat().st_size < 2**24
    assert read_config(shipped / "run.yaml").validators
    opened = open_shipped(Pretrained("toys", shipped, ""))
    assert (opened.folder.config.validators, opened.folder.config.device) == ((), "auto")
    assert [path.name for path in shipped.parent.iterdir()] == ["toys"]


def test_where_a_run_was_made_does_not_ship(toys: Path, tmp_path: Path) -> None:
    kept = ["--simulations", "2000", "--store", str(tmp_path / "kept"), "--device", "cpu"]
    run = finished_run(tmp_path / "a", *kept)
    text = (run / "run.yaml").read_text()  # where it is run may change in a folder at any time
    (run / "run.yaml").write_text(
        text.replace("workers: 1", "workers: 2").replace("cluster: null", "cluster: local:2")
    )
    assert read_config(run / "run.yaml").cluster == "local:2"
    shipped = ship(run, tmp_path / "toys")
    config = read_config(shipped / "run.yaml")
    assert (config.simulations.count, config.simulations.store) == (2000, None)
    assert (config.workers, config.cluster, config.device) == (1, None, "auto")
    assert named_paths(shipped) == []


def test_an_unfinished_run_is_refused(toys: Path, tmp_path: Path) -> None:
    run, target = tmp_path / "a", tmp_path / "toys"
    assert call("init", run, *CHOSEN, *SMALL)[0] == 0
    for stage, missing in zip(STAGES, ("fit", "fit", "sample", "validate"), strict=True):
        with pytest.raises(RunFolderError, match=f"stage '{missing}' of this run is not done"):
            ship(run, target)
        assert call(stage, run)[0] == 0
    (run / "metrics.json").write_text((run / "metrics.json").read_text().replace("pass", "fail"))
    with pytest.raises(RunFolderError, match="stage 'validate'") as caught:
        ship(run, target)
    assert "metrics.json is damaged or was changed" in caught.value.got
    assert not target.exists()


@pytest.mark.parametrize(
    ("verdict", "got"), [("fail", "1 of 1 fail: toy-mean: mean of theta"), ("none", "no verdict")]
)
def test_a_run_that_does_not_pass_is_refused(run: Path, tmp_path: Path, verdict: str, got: str) -> None:
    parts = sys.modules["sbikit_toybox.parts"]
    other = partial(_judged, parts.Metric, verdict)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "Metric", other)
        finished_run(tmp_path / "b")
    with pytest.raises(RunFolderError, match="verdicts that all pass") as caught:
        ship(tmp_path / "b", tmp_path / "toys")
    assert caught.value.got == got


def test_weights_may_ship_despite_a_validator_by_name(run: Path, tmp_path: Path) -> None:
    parts = sys.modules["sbikit_toybox.parts"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "Metric", partial(_judged, parts.Metric, "fail", only="offset"))
        failing = finished_run(tmp_path / "b", "--reference", "toy-exact")
    with pytest.raises(RunFolderError) as caught:
        ship(failing, tmp_path / "toys")
    assert "toy-agreement: offset of" in str(caught.value.got)
    with pytest.raises(RunFolderError) as caught:
        ship(failing, tmp_path / "toys", despite=("toy-agreement", "toy-mean"))
    assert caught.value.got == "no verdict"
    shipped = ship(failing, tmp_path / "toys", despite=("toy-agreement",))
    verdicts = open_shipped(Pretrained("toys", shipped, "")).verdicts()
    assert "1 of 2 verdicts pass (toy-mean, toy-agreement; 40 held-out observations)" in verdicts


def _judged(metric, verdict, *values, only=None):  # type: ignore[no-untyped-def]
    return metric(*values[:5], verdict if only in (None, values[0]) else values[5], *values[6:])


def test_a_run_that_is_too_large_or_names_a_path_is_refused(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "toys"
    monkeypatch.setattr(shipping, "MOST_BYTES", 100)
    with pytest.raises(UnsupportedError, match="too large"):
        ship(run, target)
    monkeypatch.undo()
    toy = sys.modules["sbikit_toybox.parts"].Toy
    monkeypatch.setattr(toy, "facts", lambda self: {"Table": "/home/me/table.npz"}, raising=False)
    finished_run(tmp_path / "b")
    with pytest.raises(UnsupportedError, match="path of this machine") as caught:
        ship(tmp_path / "b", target)
    assert caught.value.got == "provenance.json: /home/me/table.npz"
    assert {path.name for path in tmp_path.iterdir() if "toys" in path.name} == set()
    ship(run, target)
    with pytest.raises(OptionError, match="something of this name"):
        ship(run, target)


def test_a_simulator_that_reads_a_file_is_refused(tmp_path: Path, toys: Path) -> None:
    rng = np.random.default_rng(1)
    theta = rng.uniform(size=(50, 1))
    np.savez(tmp_path / "sims.npz", theta=theta, x=theta + rng.normal(size=(50, 1)))
    words = ["--sim", "table", "--set", f"simulator.file={tmp_path / 'sims.npz'}", *CHOSEN[2:]]
    status, _, said = call("init", tmp_path / "a", *words)
    assert status == 0, said
    with pytest.raises(UnsupportedError, match="reads a file") as caught:
        ship(tmp_path / "a", tmp_path / "toys")
    assert caught.value.where == "simulator.file"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"command": "sbikit run --out /scratch/me/a"}', ["/scratch/me/a"]),
        ("store: ~/kept.zarr", ["~/kept.zarr"]),
        ("file: '/data/sims.npz'", ["/data/sims.npz"]),
        ("doi: https://doi.org/10.1000/1 and arXiv:1610.06545", []),
        ("the mean / sd, 1/arcmin, a/b/c, kappa / (1 + z)", []),
        ("tcp://HOST:PORT or slurm:FILE.yaml", []),
    ],
)
def test_paths_are_told_from_other_texts(tmp_path: Path, text: str, found: list[str]) -> None:
    (tmp_path / "a.txt").write_text(text)
    header = json.dumps({"__metadata__": {"note": text}}).encode()
    (tmp_path / "b.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b" /no/text ")
    names = [name for name in ("a.txt", "b.safetensors") for _ in found]
    assert named_paths(tmp_path) == [f"{name}: {path}" for name, path in zip(names, found * 2, strict=True)]


def test_the_script_ships_and_refuses(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["ship.py", str(run), "toys", "--into", str(tmp_path / "pretrained")]
    monkeypatch.setattr(sys, "argv", words)
    runpy.run_path(str(SCRIPT), run_name="__main__")
    assert capsys.readouterr().out.strip() == str(tmp_path / "pretrained" / "toys")
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert ended.value.code == 2
    assert "something of this name" in capsys.readouterr().err
