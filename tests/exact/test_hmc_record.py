"""What is kept of a run that goes on: evenly spaced coordinates, every scalar, in bounded pieces."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sbikit import Field, LogDensity, Spec, Vector
from sbikit_exact.hmc import record as module
from sbikit_exact.hmc.ensemble import Trace
from sbikit_exact.hmc.record import Record

CHAINS, ROWS, SIZE = 2, 3, 2
SPEC = Spec((Vector("theta", ("a", "b")),), (Field("x", (4,)),))
DENSITY = LogDensity(SIZE, lambda z: z.sum(-1), lambda z: {"theta": z})


class Run:
    """Transitions that are numbered: coordinate 0 counts from 1, coordinate 1 is noise."""

    def __init__(self) -> None:
        self.done = 0
        self.longest = 0
        self.noise: list[np.ndarray] = []

    def __call__(self, draws: int) -> Trace:
        place = torch.arange(self.done + 1, self.done + draws + 1).float()
        noise = torch.randn(CHAINS, draws, ROWS, generator=torch.Generator().manual_seed(self.done))
        self.done, self.longest = self.done + draws, max(self.longest, draws)
        self.noise.append(noise.numpy())
        z = torch.stack([place[:, None].expand(CHAINS, draws, ROWS), noise], -1)
        energies = noise.double().numpy()
        return Trace(z, energies, energies > 2.0)


def gone_on(first: int, most: int) -> tuple[Run, Record]:
    """As the sampler does: each time twice as far, up to `most` transitions a chain."""
    run = Run()
    record = Record(run(first), DENSITY, SPEC, torch.device("cpu"))
    while record.draws < most:
        record.extend(run, min(record.draws, most - record.draws), DENSITY)
    return run, record


@pytest.mark.parametrize("first", [50, 51, 77])
@pytest.mark.parametrize("most", [50, 51, 99, 100, 153, 200, 333, 1000, 6400, 7777])
def test_as_many_as_at_first_are_kept_evenly_from_the_whole_run(first: int, most: int) -> None:
    run, record = gone_on(first, most)
    total = max(first, most)
    assert run.done == record.draws == total
    places = record.z[0, :, 0, 0].double()
    assert len(places) == first  # as many as `thin` needs
    ideal = torch.arange(1, first + 1) * total / first
    stride = total / first
    assert (places.diff() > 0).all()
    assert (places - ideal).abs().max() < 2 * stride
    assert places.diff().max() <= 2 * stride
    assert places[-1] > total - 2 * stride


def test_twice_as_many_are_every_other_one() -> None:
    _, record = gone_on(50, 200)
    assert record.z[1, :, 2, 0].tolist() == list(range(4, 201, 4))


def test_no_run_is_longer_than_the_first() -> None:
    assert gone_on(50, 6400)[0].longest == 64  # at a stride of 64 transitions
    assert gone_on(400, 6400)[0].longest == 400


def test_every_transition_is_judged() -> None:
    run, record = gone_on(51, 333)
    noise = np.concatenate(run.noise, 1)
    found = record.diagnose(1, gradients=7, seconds=0.5)
    assert found.draws == noise[..., 1].size == CHAINS * 333
    assert found.divergences == (noise[..., 1] > 2.0).sum() > 0
    assert found.gradients == 7
    # The numbered coordinate drifts, the noise does not.
    assert found.r_hat[0] > 1.5
    assert found.r_hat[1] < 1.05


def test_some_observations_go_on() -> None:
    run, record = gone_on(50, 100)
    before = record.z.clone(), record.diagnose(2, gradients=0, seconds=0.0)
    record.keep([2, 0])
    assert torch.equal(record.z, before[0][:, :, [2, 0]])
    assert record.diagnose(0, gradients=0, seconds=0.0) == before[1]
    assert run.done == 100


def test_judging_in_pieces_is_judging(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = gone_on(51, 120)[1].diagnose(0, gradients=0, seconds=0.0)
    monkeypatch.setattr(module, "_CONVERTED_AT_ONCE", 7 * CHAINS * ROWS * SIZE)
    assert gone_on(51, 120)[1].diagnose(0, gradients=0, seconds=0.0) == whole
