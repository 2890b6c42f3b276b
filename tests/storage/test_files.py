"""Files are whole or not there, and JSON is what it should be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sbikit.problem.errors import RunFolderError
from sbikit.roles.sampler import Draws
from sbikit.roles.trust import Reading, Trust
from sbikit.storage.draws import draws_key, read_draws, read_trust, write_draws
from sbikit.storage.files import (
    read_json,
    read_json_lines,
    replacing,
    write_json,
    write_json_lines,
    write_text,
)
from sbikit.storage.tensors import read_header, read_tensors, write_tensors


def test_files_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_text(path, "before")

    def torn() -> None:
        with replacing(path) as partial:
            partial.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        torn()
    assert path.read_text() == "before"
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_json_is_an_object_of_finite_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": [1, None, "ü"]})
    assert read_json(path) == {"a": [1, None, "ü"]}
    with pytest.raises(ValueError, match="Out of range"):
        write_json(path, {"a": float("nan")})
    assert read_json(path) == {"a": [1, None, "ü"]}
    path.write_text("[1]")
    with pytest.raises(ValueError, match="a list, not an object"):
        read_json(path)


def test_lines_that_a_crash_cut_short_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    assert read_json_lines(path) == ([], 0)
    write_json_lines(path, [{"step": 1}, {"step": 2}])
    with path.open("a") as file:
        file.write('\n[3]\n{"step": 3, "lo')
    assert read_json_lines(path) == ([{"step": 1}, {"step": 2}], 2)


def test_tensors_come_back_with_their_header(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.safetensors"
    tensors = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.tensor(3)}
    write_tensors(path, tensors, {"step": 4, "loss": 0.5})
    found, header = read_tensors(path)
    assert header == read_header(path) == {"step": 4, "loss": 0.5}
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"x" * 100):
        path.write_bytes(damaged)
        with pytest.raises((ValueError, OSError)):
            read_tensors(path)


def test_draws_lie_in_one_file_with_what_was_said_of_them(tmp_path: Path) -> None:
    path = tmp_path / "draws.safetensors"
    trust = (Trust(), Trust(False, (Reading("R-hat", float("inf"), 1.01),), ("too large",)))
    write_draws(path, Draws({"theta": torch.randn(3, 2, 4, generator=torch.Generator())}, trust), "made of")
    assert read_draws(path).trust == read_trust(path) == trust
    assert draws_key(path) == "made of"
    assert draws_key(tmp_path / "nowhere") is None
    write_tensors(path, {"theta": torch.zeros(3, 2, 4)}, {"trust": [trust[0].record()]})
    for read in (read_draws, read_trust):
        path.write_bytes(path.read_bytes()[:-8])
        with pytest.raises(RunFolderError, match="cannot be read"):
            read(path)
