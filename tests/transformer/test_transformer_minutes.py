"""The transformer trained for so many minutes: the steps that these are, to the bit, measured once."""

from __future__ import annotations

import re
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from interruption import CuttingMonitor, Interrupted
from kept_draws import KeptDraws
from torch import Tensor

from sbikit import BEYOND_TRAINING, JointDraws, OptionError, Simulations, TrainingError, Workspace, load
from sbikit.learning import trainer
from sbikit.testing import GaussianField, GaussianFieldOptions, GaussianVector
from sbikit_transformer import training
from sbikit_transformer.estimator import DiffusionTransformer
from sbikit_transformer.options import TransformerOptions

MINUTES = 0.02
SMALL = TransformerOptions(
    width=16,
    depth=1,
    heads=2,
    guide_nodes=16,
    batch=16,
    ema=0.9,
    guide_simulations=64,
    law_simulations=64,
    minutes=MINUTES,
)


def fit(
    draws: JointDraws, options: TransformerOptions, monitor: CuttingMonitor, folder: Path | None = None
) -> dict[str, Tensor]:
    sampler = DiffusionTransformer(options).fit(draws, seed=3, workspace=Workspace(folder), monitor=monitor)
    return dict(sampler.denoiser.state_dict())


@pytest.mark.parametrize("kept", [False, True])
def test_minutes_are_as_many_steps_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    """Interrupted after its first rounds, too; by a clock on which a step takes .02 s on any machine."""
    ticks = count()
    monkeypatch.setattr(trainer, "time", SimpleNamespace(monotonic=lambda: 0.02 * next(ticks)))
    for name in ("_JUDGE_EVERY", "_LOG_EVERY"):
        monkeypatch.setattr(training, name, 4)
    monkeypatch.setattr(training, "_KEEP_SECONDS", 0.0)
    toy = GaussianField(GaussianFieldOptions(size=4))
    draws: JointDraws = KeptDraws(toy, 110) if kept else Simulations(toy, 0)
    first = CuttingMonitor(cut=6)
    with pytest.raises(Interrupted):
        fit(draws, SMALL, first, tmp_path)
    said = re.fullmatch(r"training: (\d+) steps, at [\d.e-]+ s each, for 0.02 minutes", first.lines[-1])
    assert said is not None
    steps = int(said[1])
    assert steps > 6
    again, plain = CuttingMonitor(), CuttingMonitor()
    resumed = fit(draws, SMALL, again, tmp_path)
    assert again.lines[-1] == f"training goes on at step 4 of {steps}"
    whole = fit(draws, SMALL.model_copy(update={"minutes": None, "steps": steps}), plain)
    assert plain.records[-1]["step"] == again.records[-1]["step"]
    assert again.records[-1]["simulations"] == plain.records[-1]["simulations"]
    for name, value in whole.items():
        assert torch.equal(resumed[name], value)


def test_steps_and_minutes_exclude_each_other() -> None:
    with pytest.raises(OptionError, match="exclude each other") as caught:
        load("estimator", "diffusion-transformer", steps=10, minutes=2)
    assert caught.value.where == "estimator.steps, estimator.minutes"
    assert caught.value.got == "10 steps and 2 minutes"
    assert TransformerOptions(steps=None, minutes=2).fixed_steps is None
    assert TransformerOptions(steps=10, minutes=None).fixed_steps == 10
    assert TransformerOptions().fixed_steps == 3000


def test_as_many_draws_are_wanted_as_a_fit_asks_for() -> None:
    """Of minutes those before the first step, which are what one waits for beside the minutes. The last eight
    are had once more, to choose levels.
    """
    asked = []

    class Watched(Simulations):
        def training(self, first: int, count: int) -> dict[str, Tensor]:
            asked.append((first, count))
            return super().training(first, count)

    options = SMALL.model_copy(update={"minutes": None, "steps": 5})
    fit(Watched(GaussianVector(), 0), options, CuttingMonitor())
    wanted = DiffusionTransformer(options).draws_wanted()
    distinct = {number for first, count in asked for number in range(first, first + count)}
    assert len(distinct) == wanted
    assert sum(count for _, count in asked) == wanted + 8
    assert [count for first, count in asked if first >= BEYOND_TRAINING] == [16]
    assert DiffusionTransformer(SMALL).draws_wanted() == wanted - 5 * 16


def test_a_rate_that_is_far_too_high_is_said_to_be() -> None:
    options = SMALL.model_copy(update={"minutes": None, "steps": 200, "rate": 1.0, "width": 32, "depth": 2})
    monitor = CuttingMonitor()
    with pytest.raises(TrainingError, match="diverged") as caught:
        fit(Simulations(GaussianField(), 0), options, monitor)
    assert caught.value.fix.startswith("lower the option rate")
    assert monitor.records == []
