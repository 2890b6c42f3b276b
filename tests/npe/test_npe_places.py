"""Where things are reaches npe's context, unless a field is declared stationary."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from bump import Bump
from torch import Tensor

from sbikit import QuietMonitor, Simulations, Workspace, draw_seeds, generator
from sbikit.learning import Parts
from sbikit_npe.convolutions import PooledConvolutions
from sbikit_npe.embedding import ROWS, Embedding, Input, Reader
from sbikit_npe.estimator import NPE
from sbikit_npe.options import NPEOptions

GRIDS = [(7,), (64,), (5, 8), (1, 6), (16, 3), (3, 5, 4)]


def fitted(grid: tuple[int, ...], channels: int, *, stationary: bool, periodic: bool) -> Embedding:
    """An untrained embedding with scales of white noise."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(5)
        seen = Input("map", (channels, *grid), stationary=stationary, periodic=periodic)
        embedding = Embedding((seen,), channels=6, width=16)
    rows = torch.randn(500, channels * math.prod(grid), generator=generator(1))
    embedding.fit_scales(Parts.held({ROWS: rows}))
    return embedding


@torch.no_grad()
def change(embedding: Embedding, one: Tensor, other: Tensor) -> float:
    """Rms distance of the features of two batches of fields, in their standard deviations."""
    found = [embedding.features(embedding._pool(x.flatten(1))) for x in (one, other)]
    return float((found[0] - found[1]).square().mean().sqrt())


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("grid", GRIDS)
def test_a_moved_source_changes_the_features(grid: tuple[int, ...], channels: int, periodic: bool) -> None:
    axis = max(range(len(grid)), key=lambda i: grid[i])
    source = torch.zeros(1, channels, *grid)
    source[(0, 0, *(n // 2 for n in grid))] = 6.0
    moved = source.roll(grid[axis] // 2, 2 + axis)
    embedding = fitted(grid, channels, stationary=False, periodic=periodic)
    assert change(embedding, source, moved) > 0.3
    blind = fitted(grid, channels, stationary=True, periodic=True)
    assert change(blind, source, moved) < 0.5 * change(embedding, source, moved)


def test_a_series_that_comes_later_is_another_series() -> None:
    """An epidemic 20 days later changed the finest scales by .000 sd."""
    days = torch.arange(160.0)
    early, late = (torch.exp(-0.5 * ((days - peak) / 12.0) ** 2)[None, None] for peak in (60.0, 80.0))
    embedding = fitted((160,), 1, stationary=False, periodic=False)
    assert change(embedding, 4.0 * early, 4.0 * late) > 0.3
    blind = fitted((160,), 1, stationary=True, periodic=True)
    finest = [blind.images[0].convolutions(blind.images[0].scale(4.0 * x))[:, :6] for x in (early, late)]
    torch.testing.assert_close(finest[0], finest[1], rtol=0, atol=1e-3)


def test_of_a_stationary_periodic_field_features_are_means_of_circular_convolutions() -> None:
    """Against convolutions written out with numpy.roll."""

    def circular(x: np.ndarray, layer: torch.nn.Conv2d) -> np.ndarray:
        weight, bias = layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()  # type: ignore[union-attr]
        out = np.zeros((len(weight), *x.shape[1:])) + bias[:, None, None]
        for i, j in np.ndindex(3, 3):
            out += np.tensordot(weight[:, :, i, j], np.roll(x, (1 - i, 1 - j), (1, 2)), 1)
        return out

    def silu(x: np.ndarray) -> np.ndarray:
        return x / (1.0 + np.exp(-x))

    torch.manual_seed(2)
    net = PooledConvolutions((8, 6), 2, 5, periodic=True, placed=False)
    x = torch.randn(1, 2, 8, 6, generator=generator(3))
    h = silu(circular(x[0].double().numpy(), net.first))
    expected = [h.mean((1, 2))]
    h = h.reshape(5, 4, 2, 3, 2).mean((2, 4))
    h = silu(h + circular(silu(circular(h, net.inner[0])), net.outer[0]))
    expected.append(h.mean((1, 2)))
    np.testing.assert_allclose(net(x)[0].detach().numpy(), np.concatenate(expected), atol=1e-6)
    assert net.features == 10


def test_facts_of_observed_fields_and_summaries_are_read_from_the_simulator() -> None:
    def facts(problem: Bump) -> list[tuple[bool, bool]]:
        draws = Simulations(problem, 0).training(0, 2)
        return [(i.stationary, i.periodic) for i in Reader(problem, problem.spec).inputs(draws)]

    assert facts(Bump()) == [(False, False)]
    assert facts(Bump(stationary=True)) == [(True, True)]

    class Summarised(Bump):
        def summaries(self, values):  # type: ignore[no-untyped-def]
            return {"undeclared": values["data"], "declared": values["data"]}

    problem = Summarised(stationary=True)
    problem.summarised = (problem.outputs[0].__class__("declared", (48,), stationary=True),)
    assert facts(problem) == [(True, True), (False, False), (True, False)]


def posterior(problem: Bump, options: NPEOptions) -> tuple[Tensor, Tensor]:
    """Of 200 observations: posterior sd over the exact one, and the mean's offset in exact sd."""
    sampler = NPE(options).fit(Simulations(problem, 0), seed=0, workspace=Workspace(), monitor=QuietMonitor())
    data = Simulations(problem, 0).held_out(0, 200)["data"]
    draws = sampler.sample({"data": data}, 200, seeds=draw_seeds(1, "places", 0, 200)).values["theta"][..., 0]
    mean, sd = problem.exact(data)
    return draws.std(0) / sd, (draws.mean(0) - mean) / sd


SHORT = NPEOptions(simulations=4000, steps=500, transforms=2, hidden=32, channels=8, context=32)


@pytest.mark.parametrize("kind", ["field", "vector"])
def test_the_place_of_a_bump_is_known_as_well_as_can_be(kind: str) -> None:
    ratio, offset = posterior(Bump(kind=kind, width=8.0, noise=1.0), SHORT)
    assert float(ratio.mean()) == pytest.approx(1.0, abs=0.15)
    assert float(offset.square().mean().sqrt()) < 0.4


def test_a_field_that_is_wrongly_declared_stationary_tells_no_place() -> None:
    ratio, _ = posterior(Bump(stationary=True, width=8.0, noise=1.0), SHORT)
    assert float(ratio.mean()) > 2.0


def test_the_place_is_known_in_a_plane_of_odd_sides() -> None:
    options = SHORT.model_copy(update={"simulations": 6000, "steps": 800})
    ratio, offset = posterior(Bump((13, 5), width=2.5, noise=0.8, channels=2), options)
    assert float(ratio.mean()) == pytest.approx(1.0, abs=0.15)
    assert float(offset.square().mean().sqrt()) < 0.4
