"""Files of named arrays: the same numbers from each kind, and what must not be read is refused."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from tables import WRITERS, gaussian

from sbikit import ObservationError
from sbikit.storage import open_arrays


@pytest.mark.parametrize("name", WRITERS)
def test_every_kind_of_file_gives_the_same_rows(name: str, tmp_path: Path) -> None:
    arrays = {**gaussian(50), "field": np.arange(50 * 12.0).reshape(50, 3, 4)}
    WRITERS[name](tmp_path / name, arrays)
    rows = np.array([3, 4, 17, 49])
    with open_arrays(tmp_path / name) as found:
        assert set(found) == set(arrays)
        for key, expected in arrays.items():
            assert found[key].shape == expected.shape
            assert np.array_equal(found[key][rows], expected[rows])
            assert np.array_equal(found[key][5:9], expected[5:9])


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", theta=np.array([{"a": 1}], dtype=object))
    with open_arrays(tmp_path / "a.npz") as found, pytest.raises(ValueError, match="pickle"):
        found["theta"][:]


@pytest.mark.parametrize("name", ["a.npz", "a.h5", "a.nc", "a.zarr", "a.txt"])
def test_what_is_no_such_file_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04 no archive")
    for path in (tmp_path / name, tmp_path / "missing" / name):
        with pytest.raises(ObservationError, match="named arrays"), open_arrays(path):
            pass


def test_links_to_other_files_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["theta"] = np.zeros((3, 1))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["theta"] = h5py.ExternalLink("b.h5", "theta")
    with pytest.raises(ObservationError) as refusal, open_arrays(tmp_path / "a.h5"):
        pass
    assert "link" in refusal.value.got


def test_a_name_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["one/theta"] = file["two/theta"] = np.zeros((3, 1))
    with pytest.raises(ObservationError) as refusal, open_arrays(tmp_path / "a.h5"):
        pass
    assert "theta" in refusal.value.got
