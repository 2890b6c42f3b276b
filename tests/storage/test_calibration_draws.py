"""Draws of the calibration set in posterior.nc: written and read in blocks of any size, damage found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor

from sbikit.problem.errors import RunFolderError, SpecError
from sbikit.problem.spec import Spec
from sbikit.problem.variables import Field, Vector
from sbikit.roles import stored_draws
from sbikit.roles.stored_draws import StoredDraws, draw_blocks
from sbikit.storage.read import read_held_out, read_posterior
from sbikit.storage.write import write_posterior

N, B = 5, 9
SPEC = Spec((Vector("theta", ("a", "b")), Field("f", (32, 32), channels=2)), (Vector("x", ("x",)),))


def values(*batch: int, seed: int = 0) -> dict[str, Tensor]:
    source = torch.Generator().manual_seed(seed)
    everything = (*SPEC.latents, *SPEC.observables)
    return {v.name: torch.randn(*batch, *v.shape, generator=source) for v in everything}


DRAWS = values(N, B)


def write(path: Path, draws: object = DRAWS) -> None:
    write_posterior(
        path,
        spec=SPEC,
        posterior=values(4, seed=1),
        observed=values(seed=2),
        calibration_draws=draws,
        calibration_truth=values(B, seed=3),
        calibration_observed=values(B, seed=3),
    )


@pytest.mark.parametrize("bytes_", [1, 100_000, 2**24])
def test_blocks_of_any_size_give_the_same_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bytes_: int
) -> None:
    monkeypatch.setattr(stored_draws, "BLOCK_BYTES", bytes_)
    write(tmp_path / "p.nc")
    tree = xr.open_datatree(tmp_path / "p.nc", engine="h5netcdf")
    group = tree["calibration_posterior"]
    assert group["f"].dims == ("chain", "draw", "observation", "f_channel", "f_y", "f_x")
    np.testing.assert_array_equal(group["f"].values[0], DRAWS["f"])
    np.testing.assert_array_equal(group["theta"].values[0], DRAWS["theta"])
    tree.close()
    for held_out in (read_posterior(tmp_path / "p.nc").held_out, read_held_out(tmp_path / "p.nc")):
        assert held_out is not None
        found = list(draw_blocks(held_out.draws))
        for name in ("theta", "f"):
            assert torch.equal(torch.cat([block[name] for _, block in found], 1), DRAWS[name])
            assert torch.equal(held_out.draws[name], DRAWS[name])


def test_every_piece_has_a_checksum(tmp_path: Path) -> None:
    write(tmp_path / "p.nc")
    with h5py.File(tmp_path / "p.nc") as file:
        for name in ("theta", "f"):
            data = file["calibration_posterior"][name]
            assert (data.fletcher32, data.compression, data.shuffle) == (True, "gzip", True)


class Failing(StoredDraws):
    """Draws of which the last observation cannot be had, or is not finite."""

    def __init__(self, *, raises: bool) -> None:
        self.raises = raises

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(value.shape) for name, value in DRAWS.items()}

    def block(self, names: Sequence[str], first: int, last: int) -> dict[str, Tensor]:
        found = {name: DRAWS[name][:, first:last].clone() for name in names}
        if last == B and self.raises:
            raise KeyboardInterrupt
        if last == B:
            found["f"][-1, -1, -1, -1, -1] = torch.nan
        return found


@pytest.mark.parametrize(("raises", "error"), [(True, KeyboardInterrupt), (False, SpecError)])
def test_an_interrupted_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raises: bool, error: type[BaseException]
) -> None:
    monkeypatch.setattr(stored_draws, "BLOCK_BYTES", 1)
    path = tmp_path / "p.nc"
    write(path)
    before = path.read_bytes()
    with pytest.raises(error):
        write(path, Failing(raises=raises))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_one_variable_of_fewer_observations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="'f' has the wrong shape"):
        write(tmp_path / "p.nc", {**DRAWS, "f": DRAWS["f"][:, :-1]})
    assert not list(tmp_path.iterdir())


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file whose draws are read one observation at a time, a piece of its own for each field."""
    monkeypatch.setattr("sbikit.storage.append._PIECE", 2**14)
    monkeypatch.setattr(stored_draws, "BLOCK_BYTES", 1)
    write(tmp_path / "p.nc")
    return tmp_path / "p.nc"


def test_damage_in_a_later_block_is_refused_with_the_file(path: Path) -> None:
    with h5py.File(path) as file:
        pieces = file["calibration_posterior/f"].id
        infos = [pieces.get_chunk_info(i) for i in range(pieces.get_num_chunks())]
    last = max(infos, key=lambda one: one.chunk_offset)
    assert last.chunk_offset[2] == B - 1
    content = bytearray(path.read_bytes())
    content[last.byte_offset + last.size // 2] ^= 4
    path.write_bytes(content)
    held_out = read_held_out(path)  # what is described is whole
    blocks = draw_blocks(held_out.draws)
    for _ in range(B - 1):
        next(blocks)
    with pytest.raises(RunFolderError, match="cannot be read") as caught:
        next(blocks)
    assert caught.value.where == str(path)
    assert f"observations {B - 1} to {B - 1}" in caught.value.got
    assert "delete the file" in caught.value.fix


def test_values_that_are_not_finite_are_refused_where_they_are_read(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["calibration_posterior/f"][0, 2, B - 1, 0, 0, 0] = np.inf
    blocks = draw_blocks(read_held_out(path).draws)
    for _ in range(B - 1):
        next(blocks)
    with pytest.raises(RunFolderError, match="not finite") as caught:
        next(blocks)
    assert caught.value.where == str(path)


def test_a_file_that_has_become_another_is_refused(path: Path) -> None:
    held_out = read_held_out(path)
    path.unlink()
    with pytest.raises(RunFolderError, match="cannot be read"):
        held_out.draws.block(["f"], 0, 1)
