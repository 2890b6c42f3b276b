"""Linear laws that are right in one region each, against exact posterior means and numpy."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sbikit_transformer.data_posterior import LinearLaw
from sbikit_transformer.local_laws import REGIONS, LocalLaws

COUNT, JUDGES, NUMBERS, NOISE = 24_576, 4096, 12, 0.6
SHIFTS = torch.linspace(-2.5, 2.5, NUMBERS)


def signal(u: Tensor) -> Tensor:
    """Steps of u at other places, (M, 1) -> (M, NUMBERS): what a number tells depends on where u is."""
    return torch.tanh(3.0 * (u - SHIFTS))


def problem(count: int) -> tuple[Tensor, Tensor]:
    """Standard normal scalars, and numbers with noise."""
    source = torch.Generator().manual_seed(0)
    u = torch.randn(count, 1, generator=source)
    return u, signal(u) + NOISE * torch.randn(count, NUMBERS, generator=source)


def exact_mean(told: Tensor) -> Tensor:
    """E[u | numbers], by a sum over a grid of u."""
    at = torch.linspace(-5.0, 5.0, 2001)[:, None]
    distance = torch.cdist(told.double(), signal(at).double()).square() / (2 * NOISE**2)
    weight = torch.softmax(-distance - 0.5 * at.double().square().T, 1)
    return (weight @ at.double()).float()


def fitted(count: int = COUNT) -> tuple[LocalLaws, LinearLaw, Tensor, Tensor]:
    """Laws, the first one, scalars and numbers."""
    u, told = problem(count)
    first = LinearLaw(1, NUMBERS)
    first.fit(u[JUDGES:], told[JUDGES:])
    laws = LocalLaws(1, NUMBERS)
    laws.fit(u, told, first(told).mean, JUDGES)
    return laws, first, u, told


def test_together_they_expect_what_the_posterior_does() -> None:
    """Of what one linear law misses of the exact mean, those of the regions together miss a fifth."""
    laws, first, _, told = fitted()
    expected = first(told).mean
    raw = laws(told, expected) * laws.scale.sd + laws.scale.mean
    exact = exact_mean(told)[:JUDGES]
    missed = (raw[:JUDGES, 1:2] - exact).square().mean()
    assert missed < 0.2 * (expected[:JUDGES] - exact).square().mean()


def test_each_is_the_weighted_regression_of_its_region() -> None:
    """Against numpy's least squares of rows times roots of weights; the ridge is small beside it."""
    laws, first, u, told = fitted()
    expected = first(told).mean[JUDGES:]
    where = ((expected - laws.unit[0]) / laws.unit[1]).numpy()
    square = ((where[:, None] - laws.centres.numpy()) ** 2).sum(2) / float(laws.width)
    weight = np.exp(-square + square.min(1, keepdims=True))
    weight /= weight.sum(1, keepdims=True)
    design = np.concatenate([np.ones((len(where), 1)), told[JUDGES:].numpy()], 1)
    for k in range(REGIONS):
        root = np.sqrt(weight[:, k : k + 1])
        slopes = np.linalg.lstsq(root * design, root * u[JUDGES:].numpy(), rcond=None)[0]
        there = weight[:, k] > 0.5
        assert there.sum() > 100
        found = design[there] @ laws.linear[k].numpy()
        np.testing.assert_allclose(found, design[there] @ slopes, atol=0.03)


def test_few_simulations_teach_none() -> None:
    """Fewer than ten for each slope of two regions: nothing is told."""
    laws, first, _, told = fitted(JUDGES + 19 * (1 + NUMBERS))
    assert not laws(told, first(told).mean).any()
