"""Files of others: cut, flipped, pointing elsewhere, standing for giants; refused in one way and soon."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import xarray as xr

from sbikit.problem.errors import ObservationError, RunFolderError
from sbikit.storage.files import json_line, read_json, read_json_lines
from sbikit.storage.netcdf_guard import NetCDFRefusedError, load_groups
from sbikit.storage.observation import read_observation
from sbikit.storage.read import read_posterior
from sbikit.storage.tensors import read_tensors, write_tensors
from sbikit.storage.write import write_posterior
from sbikit.storage.yaml_guard import YAMLRefusedError, load_yaml, read_yaml_text
from sbikit.testing import GaussianVector

SPEC = GaussianVector().spec
X = np.array([1.0, 2.0, 3.0])


def external(file: h5py.File, folder: Path) -> None:
    with h5py.File(folder / "other.nc", "w") as other:
        other["x"] = X
    file["x"] = h5py.ExternalLink("other.nc", "/x")


def soft(file: h5py.File, folder: Path) -> None:
    file["kept"] = X
    file["x"] = h5py.SoftLink("/kept")


def cycle(file: h5py.File, folder: Path) -> None:
    file["x"] = X
    file.create_group("a")["b"] = file["/"]


def twice(file: h5py.File, folder: Path) -> None:
    file["x"] = X
    file["b"] = file.create_group("a")


def giant(file: h5py.File, folder: Path) -> None:
    file.create_dataset("x", shape=(10**13,), dtype="f8", chunks=(1024,))


def packed_twice(file: h5py.File, folder: Path) -> None:
    settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    settings.set_chunk(X.shape)
    settings.set_deflate(9)
    settings.set_deflate(9)
    space = h5py.h5s.create_simple(X.shape)
    made = h5py.h5d.create(file.id, b"x", h5py.h5t.IEEE_F64LE, space, settings)
    inner = zlib.compress(X.tobytes() + bytes(2**24), 9)
    made.write_direct_chunk((0,), zlib.compress(inner, 9))


def stored_elsewhere(file: h5py.File, folder: Path) -> None:
    (folder / "raw").write_bytes(X.tobytes())
    file.create_dataset("x", X.shape, X.dtype, external=[(str(folder / "raw"), 0, X.nbytes)])


def virtual(file: h5py.File, folder: Path) -> None:
    with h5py.File(folder / "other.nc", "w") as other:
        other["x"] = X
    layout = h5py.VirtualLayout(X.shape, X.dtype)
    layout[...] = h5py.VirtualSource(str(folder / "other.nc"), "x", X.shape)
    file.create_virtual_dataset("x", layout)


@pytest.mark.parametrize(
    "make", [external, soft, cycle, twice, giant, packed_twice, stored_elsewhere, virtual]
)
def test_netcdf_that_points_elsewhere_is_refused(
    tmp_path: Path, make: Callable[[h5py.File, Path], None]
) -> None:
    path = tmp_path / "obs.nc"
    with h5py.File(path, "w") as file:
        make(file, tmp_path)
    with pytest.raises(ObservationError, match="cannot be read"):
        read_observation(path, SPEC)
    with pytest.raises(RunFolderError, match="cannot be read"):
        read_posterior(path)


def test_a_chunk_counts_as_much_as_it_takes(tmp_path: Path) -> None:
    """A chunk is unpacked whole, whatever part of it the array has."""
    path = tmp_path / "obs.nc"
    with h5py.File(path, "w") as file:
        made = file.create_dataset("x", X.shape, "f8", maxshape=(None,), chunks=(2**26,), compression="gzip")
        made.id.write_direct_chunk((0,), zlib.compress(X.tobytes(), 9))
    with pytest.raises(ObservationError, match=r"announces 5\.37e\+08 bytes"):
        read_observation(path, SPEC)


def test_hdf5_without_named_dimensions_is_read(tmp_path: Path) -> None:
    path = tmp_path / "obs.nc"
    with h5py.File(path, "w") as file:
        file["x"] = X
    assert read_observation(path, SPEC)["x"].tolist() == [[1.0, 2.0, 3.0]]


@pytest.mark.parametrize("engine", ["h5netcdf", "scipy"])
@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_netcdf_is_refused_or_read(tmp_path: Path, engine: str, seed: int) -> None:
    draw = random.Random(seed)
    path = tmp_path / "obs.nc"
    xr.Dataset({"x": ("n", X)}).to_netcdf(path, engine=engine)
    content = bytearray(path.read_bytes())
    for _ in range(draw.randint(1, 6)):
        content[draw.randrange(len(content))] = draw.randrange(256)
    path.write_bytes(content[: draw.randrange(len(content))] if seed % 4 == 0 else content)
    try:
        found = load_groups(path)
    except (NetCDFRefusedError, OSError):
        return
    assert all(isinstance(data, xr.Dataset) for data in found.values())


def test_an_observation_of_numpy_cannot_announce_more_than_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "obs.npy"
    np.save(path, X)
    path.write_bytes(path.read_bytes().replace(b"(3,), ", b"(10**9,)").replace(b"(3,)", b"(9999999999999,)"))
    with pytest.raises(ObservationError, match="cannot be read"):
        read_observation(path, SPEC)
    np.save(path, X)
    assert read_observation(path, SPEC)["x"].tolist() == [[1.0, 2.0, 3.0]]


def test_every_cut_and_flip_of_a_posterior_is_refused_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "posterior.nc"
    theta = torch.randn(7, 2, generator=torch.Generator().manual_seed(1))
    write_posterior(path, spec=SPEC, posterior={"theta": theta}, observed={"x": torch.from_numpy(X).float()})
    whole = path.read_bytes()
    draw = random.Random(3)
    for _ in range(60):
        content = bytearray(whole)
        content[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        path.write_bytes(content[: draw.randrange(len(whole))] if draw.random() < 0.3 else content)
        try:
            found = read_posterior(path)
        except RunFolderError:
            continue
        np.testing.assert_array_equal(found.posterior.get("theta", theta.numpy()), theta.numpy())


def test_every_flipped_bit_of_tensors_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_tensors(path, {"a": torch.arange(5.0)}, {"step": 4})
    whole = path.read_bytes()
    for place in range(len(whole)):
        content = bytearray(whole)
        content[place] ^= 1 << (place % 8)
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"."):
            read_tensors(path)


def test_tensors_that_were_read_do_not_change_with_their_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_tensors(path, {"a": torch.arange(5.0)}, {})
    tensors, _ = read_tensors(path)
    path.write_bytes(b"\xff" * path.stat().st_size)
    assert tensors["a"].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_a_flipped_digit_of_a_log_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json_line({"step": 1, "loss": 0.5}) + json_line({"step": 2, "loss": 0.25}))
    assert read_json_lines(path) == ([{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25}], 0)
    path.write_text(path.read_text().replace("0.25", "0.26"))
    assert read_json_lines(path) == ([{"step": 1, "loss": 0.5}], 1)
    path.write_text('{"step": 1, "loss": 0.5}\n')  # of an earlier version
    assert read_json_lines(path) == ([{"step": 1, "loss": 0.5}], 0)


@pytest.mark.parametrize(
    "text", ['{"a": 1, "a": 2}', '{"a": NaN}', '{"a": Infinity}', "[" * 100_000, "3", ""]
)
def test_json_that_is_not_one_object_of_finite_numbers_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=r"."):
        read_json(tmp_path / "a.json")


def bomb(levels: int, wide: int) -> str:
    rows = ["a0: &a0 [" + ", ".join(["x"] * wide) + "]"]
    rows += [f"a{i}: &a{i} [" + ", ".join([f"*a{i - 1}"] * wide) + "]" for i in range(1, levels)]
    return "\n".join(rows)


@pytest.mark.parametrize(
    "text",
    [
        bomb(9, 9),
        bomb(14, 2),
        "a: " + "[" * 100_000,
        "a: " + "[" * 30 + "]" * 30,
        "{" * 5000,
        "".join("  " * i + "a:\n" for i in range(500)),
        "a: &a [*a]",
        "a: &a {b: *a}",
        "a: *nowhere",
        "a: !!int x",
        "a: !!timestamp x",
        "a: 2001-13-45",
        "a: \x01",
        "? [a]: 1\n" * 2,
        "[" + "1, " * 20_000 + "1]",
    ],
)
@pytest.mark.parametrize("kind", ["rt", "safe"])
def test_yaml_bombs_are_refused_with_their_place(text: str, kind: str) -> None:
    with pytest.raises(YAMLRefusedError) as caught:
        load_yaml(text, kind)
    assert caught.value.line >= 1
    assert caught.value.column >= 1


def test_anchors_in_reason_are_read() -> None:
    assert load_yaml("a: &a {b: 1}\nc: *a\nd: {<<: *a, e: 2}", "safe")["d"] == {"b": 1, "e": 2}


def test_a_giant_file_is_no_configuration(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"# \n" * 2**20)
    with pytest.raises(YAMLRefusedError, match="bytes"):
        read_yaml_text(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_bytes(b"a: 1\nb: \xff")
    with pytest.raises(YAMLRefusedError) as caught:
        read_yaml_text(tmp_path / "a.yaml")
    assert (caught.value.line, caught.value.column) == (2, 4)
