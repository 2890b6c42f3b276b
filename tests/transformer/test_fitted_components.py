"""Principal fitted components, against scipy, numpy and exact scores."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles
from scipy.special import eval_legendre
from scipy.stats import norm
from torch import Tensor

from sbikit_transformer.fitted_components import COMPONENTS, FittedComponents, polynomials, powers

COUNT, JUDGES, NUMBERS, NOISE = 20_480, 4096, 12, 0.6
SHIFTS = torch.linspace(-2.5, 2.5, NUMBERS)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def fitted(u: Tensor, told: Tensor, judges: int = JUDGES) -> FittedComponents:
    components = FittedComponents(u.shape[1], told.shape[1])
    components.fit(u, told, judges)
    return components


def test_of_linear_means_they_span_what_the_posterior_is_linear_in() -> None:
    """x = A u + e with correlated noise D: the posterior depends on A^T D^-1 x alone, two of 40 numbers."""
    source = generator(0)
    u = torch.randn(COUNT, 2, generator=source)
    slopes = 0.5 * torch.randn(40, 2, generator=source)
    root = torch.eye(40) + 0.1 * torch.randn(40, 40, generator=source)
    x = u @ slopes.T + torch.randn(COUNT, 40, generator=source) @ root.T
    found = fitted(u, x).directions.double().numpy()
    noise = (root @ root.T).double().numpy()
    exact = np.linalg.solve(noise, slopes.double().numpy())
    in_noise = np.linalg.cholesky(noise).T  # where all directions have the same noise
    assert subspace_angles(in_noise @ found, in_noise @ exact).max() < 0.1
    assert subspace_angles(in_noise @ found, in_noise @ slopes.double().numpy()).max() > 0.5


def test_they_have_noise_of_one_and_the_most_signal_first() -> None:
    source = generator(1)
    u = torch.randn(COUNT, 1, generator=source)
    x = torch.tanh(3.0 * (u - SHIFTS)) + NOISE * torch.randn(COUNT, NUMBERS, generator=source)
    components = fitted(u, x)
    raw = x @ components.directions
    bins = torch.bucketize(u[:, 0], torch.linspace(-2.0, 2.0, 161))
    within = torch.stack([raw[bins == b].var(0) for b in range(40, 121)]).mean(0)
    torch.testing.assert_close(within, torch.ones_like(within), atol=0.05, rtol=0)
    spread = raw.var(0)
    assert (spread.diff() < 0.02).all()
    found = components(x)
    torch.testing.assert_close(found.mean(0), torch.zeros(found.shape[1]), atol=0.05, rtol=0)
    torch.testing.assert_close(found.std(0), torch.ones(found.shape[1]), atol=0.05, rtol=0)


@pytest.mark.parametrize("at", [-1.0, -0.3, 0.4, 1.2])
def test_scores_everywhere_are_linear_in_them(at: float) -> None:
    """Of steps of u at other places: df/du . x / noise^2, of which one linear law has a compromise."""
    source = generator(2)
    u = torch.randn(COUNT, 1, generator=source)
    x = torch.tanh(1.5 * (u - SHIFTS)) + NOISE * torch.randn(COUNT, NUMBERS, generator=source)
    raw = x @ fitted(u, x).directions
    score = (1.5 / torch.cosh(1.5 * (at - SHIFTS)) ** 2 * x).sum(1) / NOISE**2
    design = torch.cat([torch.ones(COUNT, 1), raw], 1).double()
    left = score - design @ torch.linalg.lstsq(design, score.double()).solution
    noise = float((1.5 / torch.cosh(1.5 * (at - SHIFTS)) ** 2).norm()) / NOISE
    assert float(left.std()) < 0.2 * noise


def test_fewer_simulations_than_numbers() -> None:
    """A ridge keeps what is told: of 200 numbers all tell the same little of u, 150 simulations teach."""
    source = generator(3)
    u = torch.randn(250, 1, generator=source)
    x = 0.3 * u + torch.randn(250, 200, generator=source)
    components = fitted(u, x, 100)
    new = torch.randn(2000, 1, generator=source)
    told = components(0.3 * new + torch.randn(2000, 200, generator=source))
    assert told.isfinite().all()
    assert abs(float(np.corrcoef(told[:, 0], new[:, 0])[0, 1])) > 0.8  # of all 200, .973


def test_numbers_that_never_vary_and_numbers_told_twice() -> None:
    source = generator(4)
    u = torch.randn(COUNT, 1, generator=source)
    x = u + torch.randn(COUNT, 1, generator=source)
    components = fitted(u, torch.cat([x, x, torch.zeros(COUNT, 2)], 1))
    found = components(torch.cat([x, x, torch.zeros(COUNT, 2)], 1))
    assert found.isfinite().all()
    assert abs(float(np.corrcoef(found[:, 0], x[:, 0])[0, 1])) > 0.999


@pytest.mark.parametrize(("scalars", "degree"), [(1, 5), (2, 5), (3, 5), (4, 4), (6, 3), (12, 2), (32, 1)])
def test_all_polynomials_up_to_a_degree(scalars: int, degree: int) -> None:
    found = powers(scalars)
    assert len(set(found)) == len(found) == math.comb(scalars + degree, degree) - 1
    assert max(map(sum, found)) == degree
    assert FittedComponents(scalars, 500).count == min(COMPONENTS, len(found))


def test_polynomials_are_legendres_of_ranks() -> None:
    u = torch.randn(50, 2, generator=generator(5))
    x = 2.0 * norm.cdf(u.double().numpy()) - 1.0
    expected = [eval_legendre(a, x[:, 0]) * eval_legendre(b, x[:, 1]) for a, b in powers(2)]
    np.testing.assert_allclose(polynomials(u, powers(2)), np.stack(expected, 1), atol=1e-12)
