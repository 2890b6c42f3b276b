"""The network of vectors alone, and a posterior of two modes by it, beside a sum on a grid."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch

import sbikit
from sbikit import Prior, QuietMonitor, Simulations, Simulator, Uniform, Vector, Workspace, draw_seeds
from sbikit.testing import GaussianField, GaussianVector
from sbikit_transformer.estimator import DiffusionTransformer
from sbikit_transformer.loss import SCALARS, Copies, DenoisingLoss, Endless
from sbikit_transformer.network import Transformer
from sbikit_transformer.options import TransformerOptions
from sbikit_transformer.perceptron import DROPPED, Perceptron

NOISE = 0.1


class Squared(Simulator):
    """A number seen through its square: the posterior has two modes."""

    prior = Prior({"a": Uniform(-1.0, 1.0), "b": Uniform(-1.0, 1.0)})
    outputs = (Vector("x", ("square", "sum")),)
    observed = ("x",)

    def simulate_one(
        self, parameters: Mapping[str, float], rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        a, b = parameters["a"], parameters["b"]
        return {"x": np.array([a**2, a + b]) + NOISE * rng.standard_normal(2)}


def exact(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nodes of a and the density there, b summed over."""
    a = np.linspace(-1.0, 1.0, 401)
    b = np.linspace(-1.0, 1.0, 401)[:, None]
    log = -0.5 * ((x[0] - a**2) ** 2 + (x[1] - a - b) ** 2) / NOISE**2
    weight = np.exp(log - log.max()).sum(0)
    return a, weight / weight.sum()


def test_a_posterior_of_two_modes_is_known() -> None:
    # Tolerances are what 3,000 simulations leave open.
    kept = sbikit.simulate(Squared(), 3000, progress=False)
    options = {"steps": 400, "guide_simulations": 1024}
    posterior = sbikit.fit(kept, "diffusion-transformer", seed=1, progress=False, **options)
    for x in (np.array([0.36, 0.0]), np.array([0.5, 0.3]), np.array([0.02, -0.4])):
        a, weight = exact(x)
        draws = posterior.sample(x, 2000).to_numpy()["theta"][:, 0]
        sd = np.sqrt(weight @ a**2 - (weight @ a) ** 2)
        assert draws.mean() == pytest.approx(weight @ a, abs=0.3 * sd)
        assert draws.std() == pytest.approx(sd, rel=0.12)
        assert (draws > 0).mean() == pytest.approx(weight[a > 0].sum(), abs=0.13)
        # Between the modes there is hardly anything: a normal law would have a third of its draws there.
        between = np.abs(a) < 0.3
        assert (np.abs(draws) < 0.3).mean() == pytest.approx(weight[between].sum(), abs=0.05)


def test_only_vectors_alone_have_it() -> None:
    transformer = DiffusionTransformer(TransformerOptions())
    assert isinstance(transformer._denoiser(GaussianVector()).network.scalars, Perceptron)
    assert isinstance(transformer._denoiser(GaussianField()).network.scalars, Transformer)


def test_it_starts_at_zero_and_what_is_dropped_is_rescaled() -> None:
    """Of one block, which is linear in its hidden numbers: the mean over what is dropped is what nothing
    dropped gives, where without a rescaling it would be a fifth nearer to none.
    """
    network = Perceptron(2, 5)
    network.reset(torch.Generator().manual_seed(0))
    source = torch.Generator().manual_seed(1)
    u, told = torch.randn(2, 64, 2, generator=source), torch.randn(64, 5, generator=source)
    level = torch.randn(64, generator=source)
    assert torch.equal(network(*u, told, level), torch.zeros(64, 2))
    torch.nn.init.normal_(network.out_scalar.weight, generator=source)
    without = network(*u, told, level)
    torch.nn.init.normal_(network.blocks[0].down.weight, generator=source)
    whole = network(*u, told, level)
    none_dropped = torch.ones(64, *network.hidden)
    torch.testing.assert_close(network(*u, told, level, none_dropped), whole)
    count = 20_000
    kept = (torch.rand(count, *network.hidden, generator=source) >= DROPPED) / (1.0 - DROPPED)
    one = [part[:1].expand(count, *part.shape[1:]) for part in (*u, told, level)]
    drawn = network(*one, kept)
    error = drawn.std(0) / count**0.5
    assert (error < 0.03 * (whole[0] - without[0]).abs()).all()  # so that a fifth would be seen
    assert ((drawn.mean(0) - whole[0]).abs() < 4.0 * error).all()


def test_options_that_have_no_effect_are_told() -> None:
    said: list[str] = []

    class Listening(QuietMonitor):
        def say(self, text: str) -> None:
            said.append(text)

    def fit(simulator: Simulator, **options: int) -> None:
        transformer = DiffusionTransformer(TransformerOptions(steps=1, guide_simulations=64, **options))
        transformer.fit(Simulations(simulator, 0), seed=0, workspace=Workspace(), monitor=Listening())

    fit(Squared())
    assert not said
    fit(Squared(), width=32, law_simulations=500)
    assert said == ["diffusion-transformer: of vectors alone width, law_simulations have no effect"]


def test_rows_of_a_step_are_the_same_in_parts() -> None:
    """What is dropped belongs to a row of a step, so that several devices can share it."""
    simulations = Simulations(GaussianVector(), 0)
    denoiser = DiffusionTransformer(TransformerOptions())._denoiser(GaussianVector())
    denoiser.network.reset(torch.Generator().manual_seed(0))
    source = torch.Generator().manual_seed(1)
    for weight in denoiser.network.parameters():
        weight.data.add_(0.05 * torch.randn(weight.shape, generator=source))
    draws = Endless(simulations, first=0, batch=8)
    loss = DenoisingLoss(denoiser, draws, copies=Copies(4), seed=0, device=torch.device("cpu"))
    whole = loss(3)
    parts = torch.stack([loss.of(3, 0, 4), loss.of(3, 4, 4)]).mean()
    torch.testing.assert_close(parts, whole)
    assert loss._noise is not None
    kept = loss._noise[1][SCALARS][2]
    assert float((kept == 0).float().mean()) == pytest.approx(DROPPED, abs=0.01)


def test_draws_drop_nothing() -> None:
    options = TransformerOptions(steps=20, guide_simulations=512)
    sampler = DiffusionTransformer(options).fit(
        Simulations(Squared(), 0), seed=1, workspace=Workspace(), monitor=QuietMonitor()
    )
    data = {"x": Simulations(Squared(), 0).held_out(0, 3)["x"]}
    seeds = draw_seeds(1, "x", 0, 3)
    one, other = (sampler.sample(data, 16, seeds=seeds).values["theta"] for _ in range(2))
    assert torch.equal(one, other)
