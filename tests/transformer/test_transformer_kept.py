"""The transformer on a fixed number of simulations: resumed to the bit, stopped early, the best weights."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from interruption import CuttingMonitor, Interrupted
from kept_draws import KeptDraws

from sbikit import OptionError, QuietMonitor, Simulations, Workspace, draw_seeds
from sbikit.learning import FixedSet
from sbikit.testing import GaussianField, GaussianFieldOptions, GaussianVector
from sbikit_transformer import training
from sbikit_transformer.estimator import DiffusionTransformer
from sbikit_transformer.loss import Copies
from sbikit_transformer.options import TransformerOptions
from sbikit_transformer.sampler import TransformerSampler

SMALL = TransformerOptions(
    steps=40, width=16, depth=1, heads=2, guide_nodes=16, evaluations=4, batch=16, ema=0.9
)


def fit(
    draws: KeptDraws | Simulations,
    options: TransformerOptions = SMALL,
    folder: Path | None = None,
    monitor: QuietMonitor | None = None,
) -> TransformerSampler:
    return DiffusionTransformer(options).fit(
        draws, seed=3, workspace=Workspace(folder), monitor=monitor or QuietMonitor()
    )


@pytest.fixture
def rounds_of_ten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "_JUDGE_EVERY", 10)
    monkeypatch.setattr(training, "_KEEP_SECONDS", 0.0)


@pytest.mark.parametrize("budget", [2**20, 2000])
def test_an_interrupted_training_ends_where_it_would_have_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rounds_of_ten: None, budget: int
) -> None:
    """In memory, and in blocks of one draw; 90 of 110 draws train, so 40 steps are seven epochs."""
    monkeypatch.setattr(training, "FixedSet", partial(FixedSet, budget=budget))
    draws = KeptDraws(GaussianField(GaussianFieldOptions(size=4)), 110)
    whole = fit(draws)
    with pytest.raises(Interrupted):
        fit(draws, folder=tmp_path, monitor=CuttingMonitor(cut=25))
    again = CuttingMonitor()
    resumed = fit(draws, folder=tmp_path, monitor=again)
    assert [record["step"] for record in again.records] == [30, 40]
    for name, value in whole.denoiser.state_dict().items():
        assert torch.equal(resumed.denoiser.state_dict()[name], value)


def test_what_is_said_and_logged_and_read(rounds_of_ten: None) -> None:
    draws, monitor = KeptDraws(GaussianField(GaussianFieldOptions(size=4)), 110), CuttingMonitor()
    fit(draws, monitor=monitor)
    assert monitor.lines == [
        "diffusion-transformer: training on all 110 kept simulations, with other noise in each epoch; "
        "22 of them judge"
    ]
    assert [record["step"] for record in monitor.records] == [10, 20, 30, 40]
    assert {"loss", "validation_loss"} <= set(monitor.records[0])
    assert {record["simulations"] for record in monitor.records} == {110}


def test_the_guide_sees_no_draw_that_judges() -> None:
    """Of 8,192 that are asked for the 88 are taken that train; nor does the law see one."""
    seen = []

    class Watched(KeptDraws):
        def training(self, first: int, count: int) -> dict[str, torch.Tensor]:
            seen.append(first + count)
            return super().training(first, count)

    class Stop(QuietMonitor):
        def progress(self, title: str, total: int, start: int = 0):  # type: ignore[no-untyped-def]
            if title == "learning what data tell":  # when all that guide and law see has been read
                raise Interrupted
            return super().progress(title, total, start)

    with pytest.raises(Interrupted):
        fit(Watched(GaussianField(GaussianFieldOptions(size=4)), 110), monitor=Stop())
    assert max(seen) == 88


def test_a_tiny_set_stops_early_and_ends_with_the_best_weights(rounds_of_ten: None) -> None:
    options = SMALL.model_copy(update={"steps": 3000, "patience": 3, "width": 32, "rate": 5e-3})
    draws, monitor = KeptDraws(GaussianVector(), 60), CuttingMonitor()
    sampler = fit(draws, options, monitor=monitor)
    losses = [float(record["validation_loss"]) for record in monitor.records]
    best = losses.index(min(losses))
    assert 10 * len(losses) < 3000
    assert len(losses) - 1 - best == 3
    loss = training.DenoisingLoss(
        sampler.denoiser,
        draws.training,
        copies=Copies(32),
        seed=3,
        device=torch.device("cpu"),  # type: ignore[arg-type]
    )
    judging = [draws.training(48, 12)]
    found = loss.judged(sampler.denoiser.network, judging, 16, Copies(-(-1024 // 12), -(-1024 // 12)))
    assert found == pytest.approx(min(losses), rel=1e-5)


@pytest.mark.parametrize("option", ["patience", "validation_fraction"])
def test_options_of_a_fixed_set_are_refused_for_an_endless_stream(option: str) -> None:
    options = SMALL.model_copy(update={option: 0.1 if option == "validation_fraction" else 3})
    with pytest.raises(OptionError, match="has no effect") as caught:
        fit(Simulations(GaussianVector(), 0), options)
    assert caught.value.where == f"estimator.{option}"


@pytest.mark.slow
@pytest.mark.parametrize(("count", "offset"), [(1000, 0.25), (10_000, 0.12)])
def test_the_posterior_of_a_vector_is_learned_from_kept_draws(count: int, offset: float) -> None:
    """Means within `offset` posterior sd (rms over observations), widths within 8 %."""
    simulator = GaussianVector()
    options = TransformerOptions(steps=2000, width=32, depth=2, guide_nodes=64)
    sampler = fit(KeptDraws(simulator, count, seed=21), options)
    observation = {"x": Simulations(simulator, 22).held_out(0, 100)["x"]}
    draws = sampler.sample(observation, 500, seeds=draw_seeds(1, "test", 0, 100)).values["theta"]
    exact = simulator.exact_sampler()
    sd = exact.covariance.diagonal().sqrt()
    error = (draws.double().mean(0) - exact.mean(observation)) / sd
    assert (error.square().mean(0).sqrt() < offset).all()
    assert ((draws.double().std(0) / sd).mean(0) - 1).abs().max() < 0.08
