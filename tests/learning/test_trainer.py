"""The training loop: what it ends with, that it goes on after an interruption, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from interruption import CuttingMonitor, Interrupted
from torch import Tensor, nn

from sbikit import CheckpointError, QuietMonitor, Workspace, generator
from sbikit.learning import Average, Best, BestAverage, FinalWeights, Muon, Plan, Trainer, cosine, unfinished


class Line(nn.Module):
    """Learns y = W x from data that a step makes; its scale is a constant that the checkpoint must keep."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.register_buffer("scale", torch.ones(()))
        nn.init.zeros_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)

    scale: Tensor

    def loss(self, step: int) -> Tensor:
        x = torch.randn(16, 3, generator=generator(step))
        return ((self.layer(x) - self.scale * x[:, :2]) ** 2).mean()


def trainer(
    line: Line, final: FinalWeights, *, steps: int = 20, round_: int = 4, keep_seconds: float = 0.0
) -> Trainer:
    plan = Plan(
        steps=steps,
        round=round_,
        clip=1.0,
        rate=lambda step: cosine(step, steps, 3),
        simulations=lambda step: 16 * step,
        keep_seconds=keep_seconds,
    )
    optimisers = {
        "muon": Muon([line.layer.weight], lr=0.1),
        "adamw": torch.optim.AdamW([line.layer.bias], lr=0.1),
    }
    return Trainer(line.layer, optimisers, line.loss, final, plan, whole=line)


def validation(line: Line) -> Callable[[], float]:
    def judge() -> float:
        with torch.no_grad():
            return float(line.loss(10_000))

    return judge


def judge_of(line: Line) -> Callable[[nn.Module], float]:
    """The validation loss of any weights."""

    def judge(network: nn.Module) -> float:
        x = torch.randn(16, 3, generator=generator(10_000))
        with torch.no_grad():
            return float(((network(x) - line.scale * x[:, :2]) ** 2).mean())

    return judge


FINALS: dict[str, Callable[[Line], FinalWeights]] = {
    "average": lambda line: Average(line.layer, 0.9),
    "best": lambda line: Best(line.layer, validation(line), 3),
    "best average": lambda line: BestAverage(line.layer, 0.9, judge_of(line), 3),
}


@pytest.mark.parametrize("make", FINALS.values(), ids=FINALS.keys())
@pytest.mark.parametrize("cut", [1, 4, 11])
def test_an_interrupted_training_ends_where_it_would_have_ended(
    tmp_path: Path, make: Callable[[Line], FinalWeights], cut: int
) -> None:
    whole = Line()
    trainer(whole, make(whole)).run(Workspace(), QuietMonitor(), "me")
    workspace = Workspace(tmp_path)
    lines = [Line() for _ in range(3)]
    with pytest.raises(Interrupted):
        trainer(lines[0], make(lines[0])).run(workspace, CuttingMonitor(cut), "me")
    monitor, third = CuttingMonitor(), CuttingMonitor()
    trainer(lines[1], make(lines[1])).run(workspace, monitor, "me")
    assert monitor.started == (cut - 1) // 4 * 4
    assert [record["step"] for record in monitor.records] == list(range(monitor.started + 4, 21, 4))
    trainer(lines[2], make(lines[2])).run(workspace, third, "me")
    assert (third.started, third.records) == (20, [])
    for line in lines[1:]:
        for name, value in whole.layer.state_dict().items():
            assert torch.equal(line.layer.state_dict()[name], value)


def test_what_is_logged() -> None:
    line, monitor = Line(), CuttingMonitor()
    trainer(line, Best(line.layer, validation(line), 30), round_=8).run(Workspace(), monitor, "me")
    assert [record["step"] for record in monitor.records] == [8, 16, 20]
    assert [record["simulations"] for record in monitor.records] == [16 * 8, 16 * 16, 16 * 20]
    assert list(monitor.records[0]) == ["step", "loss", "validation_loss", "simulations", "seconds"]
    assert float(monitor.records[2]["loss"]) < 0.5 * float(monitor.records[0]["loss"])
    assert not line.layer.training


def test_the_average_is_that_of_the_formula() -> None:
    """w <- d w + (1 - d) new, d = min(decay, (1 + k) / (10 + k)) at step k from 0."""
    line, seen = Line(), []

    class Watching(Average):
        def after_step(self, network: nn.Module) -> None:
            super().after_step(network)
            seen.append({name: value.clone() for name, value in network.state_dict().items()})

    expected = {name: value.clone() for name, value in line.layer.state_dict().items()}
    trainer(line, Watching(line.layer, 0.5)).run(Workspace(), QuietMonitor(), "me")
    for k, new in enumerate(seen):
        d = min(0.5, (1 + k) / (10 + k))
        expected = {name: d * value + (1 - d) * new[name] for name, value in expected.items()}
    for name, value in line.layer.state_dict().items():
        torch.testing.assert_close(value, expected[name])
        assert not torch.equal(value, seen[-1][name])


def test_the_best_weights_are_kept_and_patience_ends_the_training() -> None:
    """A validation loss that falls for two rounds and rises then."""
    line, told, states = Line(), iter((3.0, 1.0, 2.0, float("nan"), 4.0)), []

    def judge() -> float:
        states.append(line.layer.weight.detach().clone())
        return next(told)

    monitor = CuttingMonitor()
    trainer(line, Best(line.layer, judge, 3)).run(Workspace(), monitor, "me")
    assert [record["step"] for record in monitor.records] == [4, 8, 12, 16, 20]
    assert torch.equal(line.layer.weight, states[1])
    line, told = Line(), iter((3.0, 1.0, 2.0, 1.0))
    monitor = CuttingMonitor()
    trainer(line, Best(line.layer, judge, 2)).run(Workspace(), monitor, "me")
    assert [record["step"] for record in monitor.records] == [4, 8, 12, 16]


def test_the_average_with_the_least_loss_is_kept_and_patience_ends_the_training() -> None:
    """Weights are judged as the average of `Average` has them, not as the last step left them."""
    line, told, seen = Line(), iter((3.0, 1.0, 2.0, 4.0)), []

    def judge(network: nn.Module) -> float:
        seen.append({name: value.clone() for name, value in network.state_dict().items()})
        return next(told)

    monitor = CuttingMonitor()
    trainer(line, BestAverage(line.layer, 0.9, judge, 2)).run(Workspace(), monitor, "me")
    assert [record["validation_loss"] for record in monitor.records] == [3.0, 1.0, 2.0, 4.0]
    plain, averages = Line(), []

    class Watching(Average):
        def after_round(self, network: nn.Module) -> dict[str, float]:
            averages.append({name: value.clone() for name, value in self.chosen().items()})
            return {}

    trainer(plain, Watching(plain.layer, 0.9)).run(Workspace(), QuietMonitor(), "me")
    for judged, average in zip(seen, averages, strict=False):
        assert all(torch.equal(judged[name], average[name]) for name in average)
    assert torch.equal(line.layer.weight, averages[1]["weight"])


def test_where_the_loss_stays_training_goes_back_and_its_rate_falls() -> None:
    line, told, states = Line(), iter((3.0, 2.0, 4.0, 5.0, 1.0, 6.0, 7.0)), []

    def judge() -> float:
        states.append(line.layer.weight.detach().clone())
        return next(told)

    best = Best(line.layer, judge, 2, falls=1)
    factors = []

    class Watching(QuietMonitor):
        def log(self, **record: float | int | str) -> None:
            factors.append(best.factor)
            if len(factors) == 4:
                assert torch.equal(line.layer.weight, states[1])

    trainer(line, best, steps=40).run(Workspace(), Watching(), "me")
    assert factors == pytest.approx([1.0, 1.0, 1.0, 0.3, 0.3, 0.3, 0.09])
    assert torch.equal(line.layer.weight, states[4])


def test_constants_beside_the_network_are_kept(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    line = Line()
    line.scale.fill_(2.0)
    assert unfinished(workspace) is None
    with pytest.raises(Interrupted):
        trainer(line, Average(line.layer, 0.9)).run(workspace, CuttingMonitor(9), "me")
    assert unfinished(workspace) is not None
    again, monitor = Line(), CuttingMonitor()
    trainer(again, Average(again.layer, 0.9)).run(workspace, monitor, "me")
    assert float(again.scale) == 2.0
    assert monitor.lines == ["training goes on at step 8 of 20"]


def test_nothing_is_kept_before_it_is_due_but_the_end(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    line = Line()
    with pytest.raises(Interrupted):
        trainer(line, Average(line.layer, 0.9), keep_seconds=60.0).run(workspace, CuttingMonitor(19), "me")
    assert unfinished(workspace) is None
    trainer(line, Average(line.layer, 0.9), keep_seconds=60.0).run(workspace, QuietMonitor(), "me")
    assert unfinished(workspace) is not None


@pytest.mark.parametrize("damage", ["cut", "bit", "identity"])
def test_what_cannot_be_gone_on_with_is_refused(tmp_path: Path, damage: str) -> None:
    workspace = Workspace(tmp_path)
    line = Line()
    trainer(line, Average(line.layer, 0.9)).run(workspace, QuietMonitor(), "me")
    path = unfinished(workspace)
    assert path is not None
    data = bytearray(path.read_bytes())
    if damage == "bit":
        data[-3] ^= 1
    path.write_bytes(data[: len(data) // 2] if damage == "cut" else data)
    message = "another seed" if damage == "identity" else "cannot be read"
    with pytest.raises(CheckpointError, match=message):
        trainer(line, Average(line.layer, 0.9)).run(
            workspace, QuietMonitor(), "me" * (1 + (damage == "identity"))
        )


def test_the_rate_rises_and_falls_to_zero() -> None:
    assert [cosine(step, 12, 2) for step in (0, 1, 2, 7, 12)] == pytest.approx([0.5, 1.0, 1.0, 0.5, 0.0])
    assert cosine(0, 10) == 1.0
