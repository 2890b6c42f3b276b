"""Folders of others, and two processes in one: nothing is written outside, over, or beside the other."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from sbikit.problem.errors import OptionError, RunFolderError
from sbikit.runs.config import load_config
from sbikit.runs.draft import Overrides
from sbikit.runs.folder import RunFolder
from sbikit.runs.inspection import FILES, FOLDERS
from sbikit.runs.targets import checked_target
from sbikit.storage.files import append_text, create_text, replacing, write_text


@pytest.fixture
def folder(toys: Path, tmp_path: Path) -> RunFolder:
    return RunFolder.create(
        tmp_path / "run", load_config(overrides=Overrides("toy", "toy-linear", ("toy-mean",)))
    )


@pytest.mark.parametrize("name", [*FILES, *FOLDERS, "checkpoints/unfinished", "parts/sample", "deep/er"])
def test_a_link_anywhere_in_a_run_folder_is_refused(folder: RunFolder, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    link = folder.path / name
    if link.exists():
        link.rename(outside / link.name)
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(outside / link.name if name == "run.yaml" else outside)
    before = sorted(outside.iterdir())
    for opened in (lambda: RunFolder.open(folder.path), lambda: RunFolder.create(folder.path, folder.config)):
        with pytest.raises(RunFolderError) as caught:
            opened()
        assert str(link) in caught.value.where
    assert sorted(outside.iterdir()) == before


def test_a_dangling_link_in_the_place_of_a_configuration_is_refused(
    folder: RunFolder, tmp_path: Path
) -> None:
    (folder.path / "run.yaml").unlink()
    (folder.path / "run.yaml").symlink_to(tmp_path / "made.yaml")
    with pytest.raises(RunFolderError):
        RunFolder.create(folder.path, folder.config)
    assert not (tmp_path / "made.yaml").exists()


@pytest.mark.parametrize("name", FILES)
def test_a_folder_in_the_place_of_a_file_is_refused(folder: RunFolder, name: str) -> None:
    (folder.path / name).unlink(missing_ok=True)
    (folder.path / name).mkdir()
    with pytest.raises(RunFolderError) as caught:
        RunFolder.open(folder.path)
    assert (caught.value.expected, caught.value.got) == ("a file", "a folder")


@pytest.mark.parametrize("name", FOLDERS)
def test_a_file_in_the_place_of_a_folder_is_refused(folder: RunFolder, name: str) -> None:
    (folder.path / name).write_text("x")
    with pytest.raises(RunFolderError, match="is a file"):
        RunFolder.open(folder.path)


def test_a_pipe_is_refused_and_holds_nobody_up(folder: RunFolder) -> None:
    os.mkfifo(folder.path / "run.log")
    with pytest.raises(RunFolderError, match="pipe"):
        RunFolder.open(folder.path)
    with pytest.raises(OSError, match=r"plain file|No such device"):
        append_text(folder.path / "run.log", "x")


def test_nothing_is_appended_or_written_through_a_link(tmp_path: Path) -> None:
    outside, link = tmp_path / "outside", tmp_path / "link"
    outside.write_text("theirs")
    link.symlink_to(outside)
    with pytest.raises(OSError, match="symbolic links"):
        append_text(link, "x")
    partial = tmp_path / f"made.{os.getpid()}.partial.txt"
    partial.symlink_to(outside)
    write_text(tmp_path / "made.txt", "mine")
    write_text(link, "mine")  # takes the place of the link
    assert (outside.read_text(), link.is_symlink()) == ("theirs", False)
    with replacing(tmp_path / "other") as path:
        path.write_text("x")
    assert not list(tmp_path.glob("*partial*"))


def test_what_is_created_is_never_overwritten(tmp_path: Path) -> None:
    create_text(tmp_path / "a", "first")
    with pytest.raises(FileExistsError):
        create_text(tmp_path / "a", "second")
    assert [(f.name, f.read_text()) for f in tmp_path.iterdir()] == [("a", "first")]


def test_of_two_configurations_for_one_new_folder_one_is_refused(toys: Path, tmp_path: Path) -> None:
    """Several processes at the same moment, several times: who is told that it made the folder, did."""
    configs = [load_config(overrides=Overrides("toy", "toy-linear", ("toy-mean",), seed=i)) for i in range(4)]
    context = multiprocessing.get_context("fork")
    for trial in range(10):
        path, barrier = tmp_path / f"run{trial}", context.Barrier(len(configs))
        answers = context.SimpleQueue()

        def start(i: int, path: Path = path, barrier: object = barrier, answers: object = answers) -> None:
            barrier.wait()  # type: ignore[attr-defined]
            try:
                RunFolder.create(path, configs[i])
                answers.put((i, "made"))  # type: ignore[attr-defined]
            except RunFolderError:
                answers.put((i, "refused"))  # type: ignore[attr-defined]
            except BaseException as error:
                answers.put((i, repr(error)))  # type: ignore[attr-defined]

        processes = [context.Process(target=start, args=(i,)) for i in range(len(configs))]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        told = dict(answers.get() for _ in configs)
        assert set(told.values()) == {"made", "refused"}
        assert [i for i, word in told.items() if word == "made"] == [RunFolder.open(path).config.seed]
        assert [file.name for file in path.iterdir()] == ["run.yaml"]


@pytest.mark.parametrize(
    "name",
    ["run.yaml", "posterior.nc", "stages.json", "parts/x.nc", "checkpoints/a.nc", "figures/b.nc", ".lock"],
)
def test_draws_of_new_data_take_the_place_of_nothing_of_a_run(
    folder: RunFolder, tmp_path: Path, name: str
) -> None:
    target = folder.path / name
    target.parent.mkdir(exist_ok=True)
    before = (folder.path / "run.yaml").read_bytes()
    for path in (target, tmp_path / "run" / ".." / "run" / name):
        with pytest.raises(OptionError, match="run folder's own"):
            checked_target(path, tmp_path / "obs.nc")
    assert (folder.path / "run.yaml").read_bytes() == before


def test_draws_of_new_data_overwrite_nothing_of_others(folder: RunFolder, tmp_path: Path) -> None:
    observation = tmp_path / "obs.nc"
    (tmp_path / "thesis.tex").write_text("x")
    (tmp_path / "link.nc").symlink_to(tmp_path / "nowhere.nc")
    for name in ("thesis.tex", "link.nc", "run", "absent/a.nc"):
        with pytest.raises(OptionError, match="cannot be written there"):
            checked_target(tmp_path / name, observation)
    checked_target(tmp_path / "new.nc", observation)
    checked_target(folder.path / "obs-posterior.nc", observation)


def test_a_store_that_was_being_made_when_a_run_was_killed_is_removed(folder: RunFolder) -> None:
    left = folder.path / "simulations.4711.partial.zarr"
    (left / "values").mkdir(parents=True)
    (left / "zarr.json").write_text("{}")
    with folder.locked():
        assert not left.exists()
