"""Errors by noise level: what they are where all is known, and that a denoiser that is wrong shows it."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from interruption import CuttingMonitor
from kept_draws import KeptDraws
from test_levels import Measured
from torch import Tensor

from sbikit import JointDraws, Simulations, Workspace, generator
from sbikit.testing import GaussianField, GaussianFieldOptions
from sbikit_transformer import training
from sbikit_transformer.constants import fit_constants
from sbikit_transformer.denoiser import Denoiser
from sbikit_transformer.estimator import DiffusionTransformer
from sbikit_transformer.held_out_error import HeldOutError, field_errors, scalar_errors
from sbikit_transformer.levels import TrainingLevels
from sbikit_transformer.options import TransformerOptions

SCALAR, PIXEL = 0.5, 0.7  # standard deviations of the noise of data whose prior has one
SIGMAS = (0.05, 0.3, 1.0, 5.0)


def left(noise: float, sigma: float) -> float:
    """Variance of a number of prior N(0, 1), measured with noise, that is seen at a level, too."""
    return 1.0 / (1.0 + noise**-2 + sigma**-2)


@pytest.fixture(scope="module")
def known() -> tuple[Denoiser, dict[str, Tensor]]:
    """A denoiser whose law and guide are exact and whose networks have learned nothing, and simulations."""
    simulator = Measured(SCALAR, PIXEL)
    simulations = Simulations(simulator, 0)
    with torch.random.fork_rng(devices=[]):
        denoiser = Denoiser(simulator, simulator.spec, patch=4, width=16, depth=1, heads=2, nodes=16)
    denoiser.network.reset(generator(0))
    fit_constants(denoiser, [simulations.training(0, 16_384)])
    return denoiser.eval(), simulations.training(20_000, 2000)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_error_and_implied_variance_are_the_posterior_variance(
    known: tuple[Denoiser, dict[str, Tensor]], sigma: float
) -> None:
    denoiser, values = known
    squares, implied = scalar_errors(denoiser, values, sigma, generator(1))
    exact = left(SCALAR, sigma)
    assert squares.shape == implied.shape == (2000, 1)
    assert float(squares.mean()) == pytest.approx(exact, rel=4 * math.sqrt(2 / 2000))
    assert float(implied.mean()) == pytest.approx(exact, rel=0.03)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_errors_of_a_pixel_are_its_posterior_variance(
    known: tuple[Denoiser, dict[str, Tensor]], sigma: float
) -> None:
    denoiser, values = known
    squares, guessed = field_errors(denoiser, values, sigma, generator(1))
    assert squares.shape == (2000,)
    assert torch.equal(squares, guessed)  # of a network that corrects nothing
    assert float(guessed.mean()) == pytest.approx(left(PIXEL, sigma), rel=4 * math.sqrt(2 / 32_000) + 0.01)


@pytest.mark.parametrize(
    "wrong",
    [lambda clean: clean + 0.3, lambda clean: 0.5 * clean],
    ids=["displaced, of the same gain", "too near the prior, of half the gain"],
)
def test_a_denoiser_that_is_wrong_is_seen(
    known: tuple[Denoiser, dict[str, Tensor]],
    monkeypatch: pytest.MonkeyPatch,
    wrong: Callable[[Tensor], Tensor],
) -> None:
    denoiser, values = known
    right = denoiser.denoise_scalars

    def denoise(u: Tensor, log_sigma: Tensor, told: object) -> tuple[Tensor, Tensor]:
        clean, scale = right(u, log_sigma, told)  # type: ignore[arg-type]
        return wrong(clean), scale

    monkeypatch.setattr(denoiser, "denoise_scalars", denoise)
    squares, implied = scalar_errors(denoiser, values, 0.3, generator(1))
    difference = squares - implied
    assert float(difference.mean()) > 5 * float(difference.std()) / math.sqrt(2000)


def test_slopes_are_those_of_each_scalar_in_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a denoiser D = A x, whose gain is the diagonal of A, row by row."""
    simulator = GaussianField(GaussianFieldOptions(size=4))
    simulations = Simulations(simulator, 0)
    with torch.random.fork_rng(devices=[]):
        denoiser = Denoiser(simulator, simulator.spec, patch=4, width=16, depth=1, heads=2, nodes=16)
    fit_constants(denoiser, [simulations.training(0, 512)])
    matrix = torch.tensor([[0.3, 0.9], [-0.7, 0.6]])
    monkeypatch.setattr(denoiser, "denoise_scalars", lambda u, log_sigma, told: (u @ matrix.T, u))
    _, implied = scalar_errors(denoiser, simulations.training(600, 5), 2.0, generator(1))
    torch.testing.assert_close(implied, 4.0 * matrix.diagonal().expand(5, 2), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kept", [False, True])
def test_looks_are_logged_and_are_of_simulations_that_never_train(
    monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    monkeypatch.setattr(training, "_LOG_EVERY", 10)
    monkeypatch.setattr(training, "_JUDGE_EVERY", 10)
    simulator = GaussianField(GaussianFieldOptions(size=4))
    draws: JointDraws = KeptDraws(simulator, 200) if kept else Simulations(simulator, 0)
    options = TransformerOptions(
        steps=40, width=16, depth=1, heads=2, guide_nodes=16, guide_simulations=64, law_simulations=64
    )
    looked: list[tuple[int, dict[str, Tensor]]] = []
    records = HeldOutError.records

    def watched(self: HeldOutError, network, count):  # type: ignore[no-untyped-def]
        looked.append((count, dict(self._values)))
        return records(self, network, count)

    monkeypatch.setattr(HeldOutError, "records", watched)
    monitor = CuttingMonitor()
    sampler = DiffusionTransformer(options).fit(draws, seed=3, workspace=Workspace(), monitor=monitor)
    assert [record["step"] for record in monitor.records] == [10, 20, 30, 40]
    assert sorted({int(one["step"]) for one in monitor.seen}) == [10, 20, 30, 40]
    last = [one for one in monitor.seen if one["step"] == 40]
    scalars = [one for one in last if "scalar" in one]
    low = min(float(sampler.denoiser.low[0]), 0.002)
    middles = [math.exp(math.log(low) + (5.0 - math.log(low)) * (i + 0.5) / 6) for i in range(6)]
    assert [one["scalar"] for one in scalars] == 6 * ["log_amplitude", "slope"]
    assert [one["sigma"] for one in scalars[::2]] == pytest.approx(middles)
    assert len(last) == 6 * 2 + 6
    for one in last:
        kinds = ["squared_error", "implied_variance"]
        if "scalar" not in one:
            kinds = ["pixel_squared_error", "guide_squared_error"]
        for name in kinds:
            assert {name, f"{name}_se"} <= set(one)
    count, values = looked[-1]
    assert count == 16
    trained = draws.training(0, 160 if kept else 2000)["theta"]
    assert not (values["theta"][:, None] == trained).all(-1).any()


def test_levels_lie_evenly_over_the_range_of_training() -> None:
    levels = TrainingLevels(0.05, with_field=True)
    found = levels.evenly(6)
    drawn = levels.draw(10_000, generator(0))
    steps = [math.log(b / a) for a, b in pairwise(found)]
    assert steps == pytest.approx([steps[0]] * 5)
    assert math.log(found[0]) - steps[0] / 2 == pytest.approx(float(drawn.min()), abs=0.05)
    assert math.log(found[-1]) + steps[0] / 2 == pytest.approx(float(drawn.max()), abs=0.05)
