"""Draws on the disk behave as those in memory, block by block and as a whole."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from sbikit import StoredDraws, draw_blocks, draw_shapes
from sbikit.roles import stored_draws
from sbikit.roles.stored_draws import SomeDraws

N, B = 3, 7


class Kept(StoredDraws):
    """Draws that count how many observations were asked for at once."""

    def __init__(self) -> None:
        source = torch.Generator().manual_seed(1)
        self.values = {
            "theta": torch.randn(N, B, 2, generator=source),
            "f": torch.randn(N, B, 3, 2, 2, generator=source),
        }
        self.most = 0

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(value.shape) for name, value in self.values.items()}

    def block(self, names: Sequence[str], first: int, last: int) -> dict[str, Tensor]:
        self.most = max(self.most, last - first)
        return {name: self.values[name][:, first:last].clone() for name in names}


@pytest.mark.parametrize(("bytes_", "rows"), [(1, 1), (500, 2), (2**20, B)])
def test_blocks_hold_all_draws_in_order_and_no_more_than_they_may(
    monkeypatch: pytest.MonkeyPatch, bytes_: int, rows: int
) -> None:
    monkeypatch.setattr(stored_draws, "BLOCK_BYTES", bytes_)  # one observation takes 168 bytes
    kept = Kept()
    blocks = list(draw_blocks(kept))
    assert [i for found, _ in blocks for i in found] == list(range(B))
    assert kept.most == rows
    for name, value in kept.values.items():
        assert torch.equal(torch.cat([block[name] for _, block in blocks], 1), value)
        assert torch.equal(kept[name], value)
    assert (list(kept), draw_shapes(kept)) == (["theta", "f"], draw_shapes(kept.values))


def test_blocks_of_memory_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_draws, "BLOCK_BYTES", 400)
    kept = Kept()
    for (rows, found), (others, expected) in zip(draw_blocks(kept.values), draw_blocks(kept), strict=True):
        assert rows == others
        for name, value in expected.items():
            assert torch.equal(found[name], value)


def test_what_is_done_to_a_block_is_seen_by_nobody() -> None:
    kept = Kept()
    before = kept["theta"]
    for _, block in draw_blocks(kept):
        block["theta"].zero_()
    kept["theta"].zero_()
    assert torch.equal(kept["theta"], before)


@pytest.mark.parametrize("bytes_", [1, 2**20])
def test_a_part_is_what_indexing_gives(monkeypatch: pytest.MonkeyPatch, bytes_: int) -> None:
    monkeypatch.setattr(stored_draws, "BLOCK_BYTES", bytes_)
    kept, rows = Kept(), [0, 2, 3, 6]
    part = SomeDraws(kept, rows=rows, most=2, kept={"theta": [0, 1], "f": [0, 2]})
    assert draw_shapes(part) == {"theta": (2, 4, 2), "f": (2, 4, 2, 2, 2)}
    assert torch.equal(part["theta"], kept.values["theta"][:2, rows])
    assert torch.equal(part["f"], kept.values["f"][:2, rows][:, :, [0, 2]])
    without = SomeDraws(kept, kept={"f": []})
    assert list(without) == ["theta"]
    assert "f" not in without
