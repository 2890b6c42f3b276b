"""The first training draws are kept whole, whatever happens to the files between two tries of a fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sbikit import BEYOND_TRAINING, Simulations
from sbikit.simulations import Store, Stored, attempt
from sbikit.simulations.training import FirstDraws, TrainingStream
from sbikit.simulations.writer import writing
from sbikit.testing import GaussianVector


@pytest.mark.parametrize("damage", ["removed", "flipped"])
def test_what_is_lost_before_a_fit_goes_on_is_drawn_again(tmp_path: Path, damage: str) -> None:
    whole = Simulations(GaussianVector(), 0)
    stream = TrainingStream(whole, FirstDraws(tmp_path, "mine", 1000))
    for first in (0, 300, 600):
        stream.training(first, 300)
    path = sorted(tmp_path.glob("*.safetensors"))[0]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    if damage == "removed":
        path.unlink()
    kept = FirstDraws(tmp_path, "mine", 1000)
    TrainingStream(whole, kept).training(900, 300)
    assert len(kept.joined()) == 0  # from the first draw on nothing is there
    kept.complete(whole)
    found, expected = kept.joined(), whole.training(0, 1000)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value)


def test_draws_that_no_training_reaches_are_not_among_the_first(tmp_path: Path) -> None:
    """Nor do they make a fit that went on look as if it had drawn more than it has."""
    whole = Simulations(GaussianVector(), 0)
    kept = FirstDraws(tmp_path, "mine", 1000)
    stream = TrainingStream(whole, kept)
    for first in (0, BEYOND_TRAINING, 300):
        stream.training(first, 300)
    assert kept.reached == 600
    kept.complete(whole)
    assert len(kept.joined()["theta"]) == 600


def test_no_draws_are_none_of_every_variable(tmp_path: Path) -> None:
    """Of the stream as of kept draws."""
    toy, path = GaussianVector(), tmp_path / "simulations.zarr"
    stream = Simulations(toy, 0)
    Store.create(path, toy, {"made by": "a test"}, seed=0, seconds=0.0)
    with writing(path, toy, {"made by": "a test"}) as writer:
        writer.grow(2)
        writer.put(attempt(toy, 0, "training", 0, 2))
    kept = Stored(Store.open(path, toy, {"made by": "a test"}), stream, 2)
    parts = (stream.training(0, 0), stream.training(7, 0), stream.held_out(3, 0), kept.training(1, 0))
    for none in parts:
        assert {name: value.shape for name, value in none.items()} == {"theta": (0, 2), "x": (0, 3)}
