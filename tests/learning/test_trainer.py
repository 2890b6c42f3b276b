"""The training loop: what it ends with, that it goes on after an interruption, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from interruption import CuttingMonitor, Interrupted
from torch import Tensor, nn

from sbikit import CheckpointError, QuietMonitor, TrainingError, Workspace, generator
from sbikit.learning import (
    Average,
    Best,
    BestAverage,
    Duration,
    FinalWeights,
    Looks,
    Muon,
    Plan,
    Trainer,
    cosine,
    unfinished,
)
from sbikit.learning import trainer as trainer_module


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
        rate=lambda step, steps: cosine(step, steps, 3),
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


# --- how many steps ---


class Clock:
    """Time that passes while losses are computed, and at no other."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(trainer_module, "time", SimpleNamespace(monotonic=lambda: self.now))

    def slow(self, line: Line, seconds: float, first: float = 0.0) -> Line:
        """The same, whose losses take so long, and the very first one more."""
        loss, more = line.loss, [first]

        def slowly(step: int) -> Tensor:
            self.now += seconds + (more.pop() if more else 0.0)
            return loss(step)

        line.loss = slowly  # type: ignore[method-assign]
        return line


def timed(line: Line, minutes: float) -> Trainer:
    made = trainer(line, Average(line.layer, 0.9))
    made.plan = replace(made.plan, steps=Duration(60.0 * minutes))
    return made


@pytest.mark.parametrize(
    ("seconds", "steps"),
    [
        (1.0, 600 - 10 - 2),
        (7.0, (600 - 10 - 2 * 7) // 7),
        (50.0, (600 - 10 - 2 * 50) // 50),
        (1000.0, 1),  # there is no time left
    ],
)
def test_a_training_that_is_to_take_ten_minutes_has_the_steps_of_ten_minutes(
    monkeypatch: pytest.MonkeyPatch, seconds: float, steps: int
) -> None:
    """Of which those that are measured are part; a slow first step is not taken for the rate."""
    clock, monitor = Clock(monkeypatch), CuttingMonitor()
    made = timed(clock.slow(Line(), seconds, first=10.0), 10.0)
    made.run(Workspace(), monitor, "me")
    assert made.steps == made.step == steps
    assert monitor.lines == [f"training: {steps} steps, at {seconds:.3g} s each, for 10 minutes"]
    if steps > 1:
        assert clock.now == pytest.approx(600.0, abs=1.01 * seconds)
    assert monitor.records[-1]["seconds"] == pytest.approx(clock.now)


@pytest.mark.parametrize("kind", FINALS)
@pytest.mark.parametrize("cut", [1, 11])
def test_measured_steps_are_those_that_one_may_ask_for_and_are_measured_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str, cut: int
) -> None:
    """To the bit those of a training of as many steps, interrupted or not, however fast steps are later.

    Of 60 s at 2 s a step 6 are for what is measured; what is judged takes 2 s after 4 steps of one kind.
    """
    make, steps = FINALS[kind], 21 if kind == "best" else 28
    whole = Line()
    trainer(whole, make(whole), steps=steps).run(Workspace(), QuietMonitor(), "me")
    clock, workspace = Clock(monkeypatch), Workspace(tmp_path)
    lines = [clock.slow(Line(), seconds) for seconds in (2.0, 2.0, 0.1)]

    def made(line: Line) -> Trainer:
        found = trainer(line, make(line))
        found.plan = replace(found.plan, steps=Duration(60.0))
        return found

    made(lines[0]).run(Workspace(), QuietMonitor(), "me")
    with pytest.raises(Interrupted):
        made(lines[1]).run(workspace, CuttingMonitor(cut), "me")
    again = CuttingMonitor()
    made(lines[2]).run(workspace, again, "me")
    assert again.lines == [f"training goes on at step {(cut - 1) // 4 * 4} of {steps}"]
    for line in (lines[0], lines[2]):
        for name, value in whole.layer.state_dict().items():
            assert torch.equal(line.layer.state_dict()[name], value)


# --- divergence ---


def diverging(line: Line, step: int, factor: float) -> Trainer:
    """A training whose loss is so many times as large from a step on."""
    loss = line.loss
    line.loss = lambda k: loss(k) * (factor if k >= step else 1.0)  # type: ignore[method-assign]
    return trainer(line, Average(line.layer, 0.9))


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_loss_or_a_gradient_that_is_not_finite_ends_a_training(tmp_path: Path, what: str) -> None:
    whole = Line()
    trainer(whole, Average(whole.layer, 0.9)).run(Workspace(), QuietMonitor(), "me")
    line, workspace = Line(), Workspace(tmp_path)
    made = diverging(line, 10, float("nan") if what == "loss" else 1.0)
    if what == "gradient":
        line.layer.weight.register_hook(lambda grad: grad * (float("inf") if made.step >= 10 else 1.0))
    with pytest.raises(TrainingError, match="diverged") as caught:
        made.run(workspace, QuietMonitor(), "me")
    assert (caught.value.where, what in caught.value.expected) == ("step 10", True)
    assert ("loss of nan" in caught.value.got) == (what == "loss")
    assert caught.value.fix.startswith("lower the learning rate")
    again, monitor = Line(), CuttingMonitor()  # what was kept before is as it was
    trainer(again, Average(again.layer, 0.9)).run(workspace, monitor, "me")
    assert monitor.started == 8
    assert torch.equal(again.layer.weight, whole.layer.weight)


def test_a_loss_that_rises_far_above_its_start_ends_a_training(tmp_path: Path) -> None:
    line, workspace = Line(), Workspace(tmp_path)
    made = diverging(line, 9, 1e4)
    made.plan = replace(made.plan, most_loss=lambda first: 10.0 * first, remedy="do something")
    with pytest.raises(TrainingError, match="risen far above its start") as caught:
        made.run(workspace, QuietMonitor(), "me")
    assert caught.value.where == "steps 8 to 11"
    assert caught.value.fix.startswith("do something; what was kept before stays")
    first = float(Line().loss(0).detach())
    assert caught.value.expected == f"a median loss of at most {10.0 * first:.4g}"
    resumed = diverging(Line(), 9, 1e4)  # which knows the loss of the first step from the checkpoint
    resumed.plan = replace(resumed.plan, most_loss=lambda first: 10.0 * first)
    with pytest.raises(TrainingError) as again:
        resumed.run(workspace, QuietMonitor(), "me")
    assert again.value.expected == caught.value.expected


def test_a_few_bad_steps_end_no_training() -> None:
    line, loss = Line(), Line.loss
    line.loss = lambda k: loss(line, k) * (1e4 if k % 4 == 1 else 1.0)  # type: ignore[method-assign]
    made = trainer(line, Average(line.layer, 0.9))
    made.plan = replace(made.plan, most_loss=lambda first: 10.0 * first)
    made.run(Workspace(), QuietMonitor(), "me")
    assert made.finished


# --- looks ---


def test_looks_see_what_training_would_end_with_and_change_nothing() -> None:
    """Not even where they spoil what they see, and draw random numbers."""
    whole = Line()
    trainer(whole, Average(whole.layer, 0.9)).run(Workspace(), QuietMonitor(), "me")
    ends = {}
    for steps in (8, 16, 20):  # the rate is that of 20 steps, so that they are the first of the same training
        line = Line()
        made = trainer(line, Average(line.layer, 0.9))
        made.plan = replace(made.plan, rate=lambda step, steps: cosine(step, 20, 3), steps=steps)
        made.steps = steps
        made.run(Workspace(), QuietMonitor(), "me")
        ends[steps] = line.layer.weight.clone()
    seen: list[tuple[str, int]] = []

    def look(name: str) -> Callable[[nn.Module, int], list[dict[str, float]]]:
        def at(network: nn.Module, step: int) -> list[dict[str, float]]:
            assert not network.training
            assert torch.equal(network.weight, ends[step])  # type: ignore[arg-type]
            seen.append((name, step))
            torch.nn.init.normal_(network.weight)  # type: ignore[arg-type]
            return [{"a": 1.0}, {"a": 2.0}]

        return at

    line, monitor = Line(), CuttingMonitor()
    made = trainer(line, Average(line.layer, 0.9))
    made.plan = replace(made.plan, looks=Looks(3, look("on the way"), look("at the end")))
    made.run(Workspace(), monitor, "me")
    assert seen == [("on the way", 8), ("on the way", 16), ("at the end", 20)]
    assert [(one["step"], one["a"]) for one in monitor.seen] == [(k, a) for _, k in seen for a in (1.0, 2.0)]
    assert torch.equal(line.layer.weight, whole.layer.weight)
