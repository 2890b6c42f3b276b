"""Rows in the order of an epoch: each once, from the seed and the epoch alone, whatever is held in memory."""

from __future__ import annotations

import threading

import pytest
import torch

from sbikit import Values
from sbikit.learning import Shuffled

COUNT, BATCH = 103, 10


class Source:
    """Rows that say which they are; remembers what was read, and by how many threads at once."""

    def __init__(self, count: int = COUNT) -> None:
        self.count = count
        self.read: list[tuple[int, int]] = []
        self.lock = threading.Lock()

    def __call__(self, first: int, count: int) -> Values:
        assert self.lock.acquire(blocking=False)
        assert 0 <= first < first + count <= self.count
        self.read.append((first, count))
        number = torch.arange(first, first + count)
        self.lock.release()
        return {"number": number, "wide": number[:, None].expand(-1, 7).float()}


def numbers(rows: Shuffled, epoch: int) -> list[int]:
    steps = range(epoch * rows.batches, (epoch + 1) * rows.batches)
    batches = [rows.batch(step) for step in steps]
    assert {batch.epoch for batch in batches} == {epoch}
    assert [len(batch.numbers) for batch in batches] == [BATCH] * 10 + [3]
    for batch in batches:
        assert torch.equal(batch.values["number"], batch.numbers)
        assert torch.equal(batch.values["wide"][:, 6], batch.numbers.float())
    return torch.cat([batch.numbers for batch in batches]).tolist()


# 8 numbers a row: all of them; blocks of 4 rows; single rows.
@pytest.mark.parametrize("budget", [8 * COUNT, 8 * 64, 1])
def test_an_epoch_has_every_row_once_in_an_order_of_its_own(budget: int) -> None:
    rows = Shuffled(Source(), COUNT, batch=BATCH, seed=3, budget=budget)
    first, second = numbers(rows, 0), numbers(rows, 1)
    assert sorted(first) == sorted(second) == list(range(COUNT))
    assert first != second
    assert first != sorted(first)


@pytest.mark.parametrize("budget", [8 * COUNT, 8 * 64])
def test_a_step_is_the_same_without_those_before_it(budget: int) -> None:
    whole = Shuffled(Source(), COUNT, batch=BATCH, seed=3, budget=budget)
    wanted = [whole.batch(step).numbers.tolist() for step in range(40)]
    for step in (17, 39, 0, 25):
        alone = Shuffled(Source(), COUNT, batch=BATCH, seed=3, budget=budget)
        assert alone.batch(step).numbers.tolist() == wanted[step]
    other = Shuffled(Source(), COUNT, batch=BATCH, seed=4, budget=budget)
    assert other.batch(0).numbers.tolist() != wanted[0]


def test_what_fits_is_read_once_and_what_does_not_in_blocks() -> None:
    source = Source()
    small = Shuffled(source, COUNT, batch=BATCH, seed=0, budget=8 * COUNT)
    for step in range(30):
        small.batch(step)
    assert source.read == [(0, 1), (0, COUNT)]
    source = Source(10_000)
    large = Shuffled(source, 10_000, batch=BATCH, seed=0, budget=8 * 640)  # blocks of 40 rows
    for step in range(500):
        large.batch(step)
    assert {count for _, count in source.read[1:]} == {40}
    assert {first % 40 for first, _ in source.read[1:]} == {0}
    # Each block once, and no more ahead of what is used than a group of eight.
    assert 5000 // 40 <= len(set(source.read[1:])) == len(source.read[1:]) <= 5000 // 40 + 2 * 8


def test_batches_mix_rows_of_several_blocks() -> None:
    rows = Shuffled(Source(10_000), 10_000, batch=64, seed=0, budget=8 * 640)
    blocks = [len(torch.unique(rows.batch(step).numbers // 40)) for step in range(20)]
    assert sum(blocks) / len(blocks) > 6.0


def test_what_fails_in_the_thread_is_raised() -> None:
    def read(first: int, count: int) -> Values:
        if first:
            raise RuntimeError("the disk is gone")
        return {"x": torch.zeros(count, 8)}

    rows = Shuffled(read, COUNT, batch=BATCH, seed=0, budget=8)
    with pytest.raises(RuntimeError, match="the disk is gone"):
        rows.batch(0)
