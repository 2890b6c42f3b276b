"""Tensors written and read piece by piece, against the safetensors library."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sbikit.problem.errors import RunFolderError
from sbikit.roles import stored_draws
from sbikit.roles.sampler import Draws
from sbikit.roles.stored_draws import draw_blocks
from sbikit.roles.trust import Trust
from sbikit.storage.draws import (
    DrawsInParts,
    Part,
    open_draws,
    read_draws,
    read_trust,
    write_draws,
    write_stored_draws,
)
from sbikit.storage.tensors import open_tensors, read_tensors, write_tensors, writing_blocks

VALUES = {
    "theta": torch.randn(4, 7, 2, generator=torch.Generator().manual_seed(1)),
    "f": torch.randn(4, 7, 3, 5, generator=torch.Generator().manual_seed(2)),
}
SHAPES = {name: tuple(value.shape) for name, value in VALUES.items()}


def write(path: Path, *ends: int) -> None:
    with writing_blocks(path, SHAPES, {"key": "é"}) as writer:
        for first, last in zip((0, *ends), (*ends, 7), strict=True):
            writer.put(first, {name: value[:, first:last] for name, value in VALUES.items()})


@pytest.mark.parametrize("ends", [(), (1, 2, 6), (3,)])
def test_blocks_make_the_file_that_the_library_makes(tmp_path: Path, ends: tuple[int, ...]) -> None:
    write(tmp_path / "a.safetensors", *ends)
    found = load_file(tmp_path / "a.safetensors")
    assert found.keys() == VALUES.keys()
    assert all(torch.equal(found[name], value) for name, value in VALUES.items())
    tensors, header = read_tensors(tmp_path / "a.safetensors")
    assert header == {"key": "é"}
    assert all(torch.equal(tensors[name], value) for name, value in VALUES.items())
    whole = tmp_path / "b.safetensors"
    write_tensors(whole, VALUES, {"key": "é"})
    assert open_tensors(whole)[0].metadata == open_tensors(tmp_path / "a.safetensors")[0].metadata


def test_columns_are_what_indexing_gives(tmp_path: Path) -> None:
    write_tensors(tmp_path / "a.safetensors", VALUES, {})
    file, _ = open_tensors(tmp_path / "a.safetensors")
    found = file.columns(["f"], 2, 5)
    assert list(found) == ["f"]
    assert torch.equal(found["f"], VALUES["f"][:, 2:5])


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool]
)
def test_every_type_comes_back(tmp_path: Path, dtype: torch.dtype) -> None:
    value = (torch.arange(6).reshape(2, 3) % 2).to(dtype)
    write_tensors(tmp_path / "a.safetensors", {"x": value, "none": value[:0]}, {})
    found, _ = read_tensors(tmp_path / "a.safetensors")
    assert (found["x"].dtype, found["none"].shape) == (dtype, (0, 3))
    assert torch.equal(found["x"], value)


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write(path)
    before = path.read_bytes()

    def interrupted() -> None:
        with writing_blocks(path, SHAPES, {}) as writer:
            writer.put(0, {name: value[:, :2] for name, value in VALUES.items()})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_flipped_bit_is_found_before_anything_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write(path)
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(content)
    with pytest.raises(ValueError, match="the checksum differs"):
        open_tensors(path)
    with pytest.raises(RunFolderError, match="Draws cannot be read") as caught:
        open_draws(path)
    assert caught.value.where == str(path)


def parts(folder: Path, ends: tuple[int, ...]) -> DrawsInParts:
    """VALUES in files that end at these observations."""
    made = []
    for first, last in zip((0, *ends[:-1]), ends, strict=True):
        trust = tuple(Trust(complaints=(str(b),)) for b in range(first, last))
        path = folder / f"{first}.safetensors"
        write_draws(path, Draws({name: value[:, first:last] for name, value in VALUES.items()}, trust))
        made.append(Part(path, first, last))
    return DrawsInParts(made, SHAPES)


@pytest.mark.parametrize("bytes_", [1, 200, 2**20])
def test_draws_in_parts_become_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bytes_: int) -> None:
    monkeypatch.setattr(stored_draws, "BLOCK_BYTES", bytes_)
    draws = parts(tmp_path / "parts", (3, 4, 7))
    trust = tuple(Trust(complaints=(str(b),)) for b in range(7))
    write_stored_draws(tmp_path / "all.safetensors", draws, trust, "made of")
    found = read_draws(tmp_path / "all.safetensors")
    assert found.trust == trust == read_trust(tmp_path / "all.safetensors")
    opened = open_draws(tmp_path / "all.safetensors")
    for name, value in VALUES.items():
        assert torch.equal(found.values[name], value)
        assert torch.equal(opened[name], value)
        assert torch.equal(draws[name], value)


def test_a_damaged_part_is_refused_when_it_is_reached(tmp_path: Path) -> None:
    draws = parts(tmp_path, (3, 7))
    path = tmp_path / "3.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(content)
    blocks = draw_blocks(draws)
    assert torch.equal(draws.block(["theta"], 0, 3)["theta"], VALUES["theta"][:, :3])
    with pytest.raises(RunFolderError, match="Draws cannot be read") as caught:
        next(blocks)
    assert caught.value.where == str(path)
