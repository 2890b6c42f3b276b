"""A run folder never loses or mixes results: refusals, atomic files, and stages that know their inputs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sbikit.problem.errors import RunFolderError
from sbikit.runs.config import RunConfig, load_config
from sbikit.runs.draft import Overrides
from sbikit.runs.folder import RunFolder, default_folder
from sbikit.storage.differing import differences


@pytest.fixture
def make(toys: Path) -> Callable[..., RunConfig]:
    """A toy configuration from `--set` texts."""

    def config(*assignments: str) -> RunConfig:
        return load_config(overrides=Overrides("toy", "toy-linear", ("toy-mean",), assignments=assignments))

    return config


@pytest.fixture
def folder(make: Callable[..., RunConfig], tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "run", make())


def refusal(path: Path, config: RunConfig) -> RunFolderError:
    with pytest.raises(RunFolderError) as caught:
        RunFolder.create(path, config)
    return caught.value


def test_the_default_folder_names_what_it_holds(make: Callable[..., RunConfig]) -> None:
    assert default_folder(make("seed=3")) == Path("runs/toy-toy-linear-seed3")


def test_the_same_configuration_is_taken_up_again(make: Callable[..., RunConfig], tmp_path: Path) -> None:
    first = RunFolder.create(tmp_path / "deep" / "run", make("simulator.scale=1e-3"))
    again = RunFolder.create(tmp_path / "deep" / "run", make("simulator.scale=1e-3"))
    assert again.config == first.config == RunFolder.open(first.path).config


def test_another_configuration_is_refused_with_what_differs(
    make: Callable[..., RunConfig], folder: RunFolder
) -> None:
    before = (folder.path / "run.yaml").read_bytes()
    error = refusal(folder.path, make("simulator.scale=2", "seed=5", "validators=[]"))
    assert "simulator.scale: 1.0 there, 2.0 asked for" in error.got
    assert "seed: 0 there, 5 asked for" in error.got
    assert "validators.0: toy-mean there, nothing asked for" in error.got
    assert "sampling" not in error.got
    assert (folder.path / "run.yaml").read_bytes() == before


def test_another_device_is_no_other_configuration(make: Callable[..., RunConfig], folder: RunFolder) -> None:
    assert RunFolder.create(folder.path, make("device=cpu")).config.device == "auto"


def test_a_folder_of_something_else_is_refused(make: Callable[..., RunConfig], tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("x")
    error = refusal(tmp_path / "thesis", make())
    assert "thesis.tex" in error.got
    assert not (tmp_path / "thesis" / "run.yaml").exists()
    assert "is a file" in refusal(tmp_path / "thesis" / "thesis.tex", make()).message
    assert "cannot be written" in refusal(Path("/proc/nowhere/run"), make()).message


def test_an_interrupted_start_is_taken_up(make: Callable[..., RunConfig], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.partial.yaml").write_text("simul")
    assert RunFolder.create(tmp_path / "run", make()).config == make()


def test_a_damaged_configuration_is_refused_with_its_place(folder: RunFolder) -> None:
    file = folder.path / "run.yaml"
    whole = file.read_text()
    file.write_text(whole.replace("scale: 1.0", "scale: 11"))
    with pytest.raises(RunFolderError, match="damaged") as caught:
        RunFolder.open(folder.path)
    assert "run.yaml:4:10" in caught.value.where
    file.write_bytes(b"\x00\x01")
    with pytest.raises(RunFolderError, match="damaged"):
        RunFolder.open(folder.path)
    with pytest.raises(RunFolderError, match="no run folder"):
        RunFolder.open(folder.path.parent)


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b'{"fit": 3}'])
def test_damaged_stage_records_are_refused(folder: RunFolder, content: bytes) -> None:
    (folder.path / "stages.json").write_bytes(content)
    with pytest.raises(RunFolderError, match="damaged") as caught:
        folder.ledger.done("fit", ())
    assert "stages.json" in caught.value.where


def test_a_stage_is_done_while_its_files_are_whole(folder: RunFolder) -> None:
    made = folder.path / "made"
    made.mkdir()
    (made / "a").write_text("1")
    (made / "b").write_text("2")
    assert not folder.ledger.done("fit", ())
    folder.ledger.finish("fit", (), [made])
    assert folder.ledger.done("fit", ())
    (made / "b").write_text("3")
    assert not folder.ledger.done("fit", ())
    (made / "b").write_text("2")
    assert folder.ledger.done("fit", ())
    (made / "a").unlink()
    assert not folder.ledger.done("fit", ())


def test_a_stage_is_not_done_once_what_it_read_is_made_anew(folder: RunFolder) -> None:
    first, second = folder.path / "first", folder.path / "second"
    first.write_text("1")
    folder.ledger.finish("fit", (), [first])
    second.write_text("2")
    folder.ledger.finish("sample", ("fit",), [second])
    assert folder.ledger.done("sample", ("fit",))
    first.write_text("other")
    folder.ledger.finish("fit", (), [first])
    assert not folder.ledger.done("sample", ("fit",))
    assert set(json.loads((folder.path / "stages.json").read_text())) == {"fit", "sample"}


def test_two_processes_do_not_work_in_one_folder(folder: RunFolder) -> None:
    with folder.locked(), pytest.raises(RunFolderError, match="Another sbikit process"), folder.locked():
        pass
    with folder.locked():
        pass


def test_differences_name_every_leaf() -> None:
    old = {"a": {"b": 1, "c": [1, {"d": 2}]}, "e": None}
    new = {"a": {"b": 1, "c": [1, {"d": 3}]}, "f": "x"}
    assert differences(old, new) == [
        "a.c.1.d: 2 there, 3 asked for",
        "e: null there, nothing asked for",
        'f: nothing there, "x" asked for',
    ]
    assert differences(old, old) == []
