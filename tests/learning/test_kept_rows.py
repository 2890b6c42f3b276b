"""Rows that are made in order and kept in files as they come."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sbikit import CheckpointError
from sbikit.learning import KeptRows, kept_rows

ROWS = torch.arange(30.0).reshape(10, 3)
EARLY = torch.arange(4.0)  # what the first four rows have beside


class Cut(Exception):
    """Stands for a power cut."""


class Making:
    """Rows two at a time, up to a cut; remembers where it began."""

    def __init__(self, cut: int = 10) -> None:
        self.cut = cut
        self.began: int | None = None

    def __call__(self, done: int) -> Iterator[dict[str, Tensor]]:
        self.began = done
        for first in range(done, 10, 2):
            if first >= self.cut:
                raise Cut
            part = {"rows": ROWS[first : first + 2]}
            yield part | {"early": EARLY[first : first + 2]} if first < 4 else part


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_rows, "_KEEP_SECONDS", 0.0)


def whole(found: dict[str, Tensor]) -> bool:
    return torch.equal(found["rows"], ROWS) and torch.equal(found["early"], EARLY)


@pytest.mark.parametrize("cut", [0, 2, 4, 6, 8])
def test_what_was_made_before_a_cut_is_not_made_again(tmp_path: Path, cut: int) -> None:
    with pytest.raises(Cut):
        KeptRows(tmp_path, "rows", "me").joined(Making(cut))
    again, third = Making(), Making()
    assert whole(KeptRows(tmp_path, "rows", "me").joined(again))
    assert again.began == cut
    assert whole(KeptRows(tmp_path, "rows", "me").joined(third))
    assert third.began == 10


def test_what_comes_before_the_next_file_is_due_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_rows, "_KEEP_SECONDS", 1e9)
    assert whole(KeptRows(tmp_path, "rows", "me").joined(Making()))
    assert [path.name for path in tmp_path.iterdir()] == ["rows-000000000000.safetensors"]
    again = Making()
    assert whole(KeptRows(tmp_path, "rows", "me").joined(again))
    assert again.began == 10


def test_after_a_file_that_is_missing_rows_are_made_again(tmp_path: Path) -> None:
    KeptRows(tmp_path, "rows", "me").joined(Making())
    sorted(tmp_path.iterdir())[2].unlink()
    again = Making()
    assert whole(KeptRows(tmp_path, "rows", "me").joined(again))
    assert again.began == 4


def test_rows_of_something_else_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    KeptRows(tmp_path, "rows", "me").joined(Making())
    with pytest.raises(CheckpointError, match="other options, another seed or another problem"):
        KeptRows(tmp_path, "rows", "you").joined(Making())
    path = sorted(tmp_path.iterdir())[1]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot be read"):
        KeptRows(tmp_path, "rows", "me").joined(Making())


@pytest.mark.parametrize("nowhere", [True, False])
def test_who_does_not_write_makes_all(tmp_path: Path, nowhere: bool) -> None:
    kept = KeptRows(None, "rows", "me") if nowhere else KeptRows(tmp_path, "rows", "me", writes=False)
    assert whole(kept.joined(Making()))
    assert not list(tmp_path.iterdir())
