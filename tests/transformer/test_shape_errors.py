"""What a guide errs along shapes, against the exact posterior mean of a field that is not Gaussian."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from sbikit import QuietMonitor, Simulations, Simulator, Workspace, generator, load
from sbikit.learning import Parts
from sbikit_transformer.data_posterior import LinearLaw
from sbikit_transformer.estimator import DiffusionTransformer
from sbikit_transformer.guide import Guide
from sbikit_transformer.options import TransformerOptions
from sbikit_transformer.polynomials import Quadratic
from sbikit_transformer.sampler import TransformerSampler
from sbikit_transformer.shape_errors import ShapeErrors
from sbikit_transformer.shapes import COUNT, Shapes, ShapesOf

GRID = (16, 16)
WHITE = Quadratic(torch.zeros(1, dtype=torch.bool))
NOISE = 0.5  # sd of a pixel's data
SHAPES = ShapesOf(GRID)


def width(u: Tensor) -> Tensor:
    """Of the logarithm of a field, whose pixels are independent: the larger, the more the field bends."""
    return 0.4 * (0.3 * u).exp()


def simulated(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Parameters (M, 1), fields and data (M, 1, 16, 16)."""
    source = generator(seed)
    u = torch.randn(count, 1, generator=source)
    t = torch.randn(count, 1, *GRID, generator=source)
    y = (width(u)[..., None, None] * t).exp() - 1.0
    return u, y, y + NOISE * torch.randn(y.shape, generator=source)


def exact(u: Tensor, data: Tensor, noisy: Tensor, sigma: float) -> np.ndarray:
    """E[y | data, noisy, u] by numpy: a sum over the values of a pixel's logarithm."""
    t = np.linspace(-6.0, 6.0, 601)
    precision = NOISE**-2 + sigma**-2
    seen = ((data / NOISE**2 + noisy / sigma**2) / precision).double().numpy().reshape(len(u), -1)
    means = []
    for s, pixels in zip(width(u).double().numpy()[:, 0], seen, strict=True):
        y = np.exp(s * t) - 1.0
        log_weight = -0.5 * t**2 - 0.5 * precision * (pixels[:, None] - y) ** 2
        weight = np.exp(log_weight - log_weight.max(1, keepdims=True))
        means.append(weight @ y / weight.sum(1))
    return np.stack(means).reshape(data.shape)


@cache
def fitted() -> tuple[Guide, ShapeErrors]:
    u, y, d = simulated(8192, 0)
    guide = Guide(WHITE, 1, GRID, nodes=16)
    law = LinearLaw(1, 0)
    law.fit(u, u[:, :0])
    guide.fit(Parts.held({"u": u, "field": y, "data": d, "vectors": u[:, :0]}), law)
    errors = ShapeErrors(WHITE, 1)
    u, y, d = simulated(1024, 1)
    noise = torch.randn(y.shape, generator=generator(2))

    def rows() -> Iterator[tuple[Tensor, Tensor]]:
        for log_sigma in errors.levels.tolist():
            field, error, shapes = guessed(guide, u, d, y + np.exp(log_sigma) * noise, np.exp(log_sigma))
            left = (y - field) / error
            yield errors.features(u, torch.zeros_like(u), shapes), errors.along(shapes, left).flatten(1)

    errors.fit(rows(), QuietMonitor())
    return guide, errors


def guessed(
    guide: Guide, u: Tensor, data: Tensor, noisy: Tensor, sigma: float
) -> tuple[Tensor, Tensor, Shapes]:
    """Of a guide its field, the error it expects, and the shapes of the field."""
    level = torch.full((len(u),), float(sigma))
    guess = guide(noisy, u, guide.told(data), u[:, :0], level)
    return guess.field, guess.error[..., None, None], SHAPES(guess.field, guess.error, noisy, level)


@pytest.mark.parametrize("sigma", [0.3, 1.0, 3.7, 30.0])
def test_fields_are_denoised_as_an_exact_posterior_does(sigma: float) -> None:
    """Of what the guide alone misses, squared, 90 % is mended at least."""
    guide, errors = fitted()
    u, y, d = simulated(256, 3)
    noisy = y + sigma * torch.randn(y.shape, generator=generator(4))
    field, error, shapes = guessed(guide, u, d, noisy, sigma)
    added = errors.added(u, torch.zeros_like(u), shapes, torch.full((256,), sigma).log())
    right = exact(u, d, noisy, sigma)
    mended = field + error * added
    before, after = (float(np.mean((found.numpy() - right) ** 2)) for found in (field, mended))
    assert after < 0.1 * before


def some_shapes(count: int, channels: int, seed: int) -> Shapes:
    """Of skew fields."""
    field = torch.randn(count, channels, *GRID, generator=generator(seed)).exp()
    error = torch.full((count, channels), 0.5)
    noisy = field + torch.randn(field.shape, generator=generator(seed + 1))
    return SHAPES(field, error, noisy, torch.ones(count))


def test_what_is_best_along_shapes_is_what_numpy_finds() -> None:
    """Least squares, with a ridge: directions of a skew field are not orthogonal to each other."""
    shapes, left = some_shapes(5, 2, 1), torch.randn(5, 2, *GRID, generator=generator(3))
    found = ShapeErrors.along(shapes, left)
    assert found.shape == (5, 2, COUNT)
    for b, c in np.ndindex(5, 2):
        phi = shapes.phi[b, c].flatten(1).double().numpy().T
        rows = np.vstack([phi, math.sqrt(1e-3) * np.eye(COUNT)])
        target = np.append(left[b, c].flatten().double().numpy(), np.zeros(COUNT))
        best = np.linalg.lstsq(rows, target, rcond=None)[0]
        np.testing.assert_allclose(found[b, c].numpy(), best, rtol=1e-4, atol=1e-4)


def test_coefficients_are_linear_between_levels_and_end_with_them() -> None:
    errors, source = ShapeErrors(WHITE, 2), generator(1)
    errors.coefficients.normal_(generator=source)
    errors.most.fill_(1e3)
    shapes, u, surprise = some_shapes(3, 2, 5), *torch.randn(2, 3, 1, generator=source)
    features = errors.features(u, surprise, shapes).double().numpy()
    at = torch.tensor([-4.0, 0.3, 7.0])
    found = errors(u, surprise, shapes, at).flatten(1).numpy()
    known = errors.coefficients.double().numpy()
    for row, log_sigma in enumerate(at.tolist()):
        every = features[row] @ known
        expected = [np.interp(log_sigma, errors.levels.numpy(), of_one) for of_one in every.T]
        np.testing.assert_allclose(found[row], expected, rtol=1e-3, atol=1e-3)


def test_what_simulations_do_not_show_is_not_believed() -> None:
    """Errors are no larger than the largest that were found, and none where there is nothing to learn."""
    source = generator(1)
    count = 512
    errors, shapes = ShapeErrors(WHITE, 1), some_shapes(count, 1, 5)
    u, surprise = torch.randn(2, count, 1, generator=source)
    features = errors.features(u, surprise, shapes)
    tied = (1.0 + u).expand(-1, COUNT) * torch.arange(COUNT)
    errors.fit(((features, tied) for _ in errors.levels), QuietMonitor())
    largest = errors(u, surprise, shapes, torch.zeros(count)).abs().amax((0, 1))
    torch.testing.assert_close(largest, tied.abs().amax(0), rtol=0.02, atol=0.02)
    far = errors(u + 100.0, surprise, shapes, torch.zeros(count)).abs().amax((0, 1))
    assert bool((far <= 1.001 * largest).all())
    noise = torch.randn(count, COUNT, generator=source)
    errors.fit(((features, noise) for _ in errors.levels), QuietMonitor())
    found = errors(u, surprise, shapes, torch.zeros(count))
    assert not found.any()


def test_rounding_errors_among_what_is_told_teach_nothing() -> None:
    """Of a number that should be 0, of which rounding left something, it does not matter what."""
    source, count = generator(1), 512
    errors, shapes = ShapeErrors(WHITE, 1), some_shapes(count, 1, 5)
    u, surprise, *rounding = torch.randn(4, count, 1, generator=source)
    features = errors.features(u, surprise, shapes)
    target = (1.0 + u + torch.randn(count, 1, generator=source)).expand(-1, COUNT)
    found = []
    for left in rounding:
        features[:, -1:] = 1e-7 * left
        errors.fit(((features, target) for _ in errors.levels), QuietMonitor())
        found.append(features @ errors.coefficients[0])
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-5)


def test_what_is_hardly_certain_is_taken_in_part() -> None:
    """Squares of N rows that f useless numbers lower by f +- sqrt(2 f): three times that is the doubt."""
    source, count = generator(1), 512
    errors, shapes = ShapeErrors(WHITE, 1), some_shapes(count, 1, 5)
    u, surprise, noise = torch.randn(3, count, 1, generator=source)
    features = errors.features(u, surprise, shapes)
    shares = []
    for signal in (0.0, 0.3, 0.4, 0.5, 0.6, 1.0, 3.0):
        target = signal * u + noise
        errors.fit(((features, target.expand(-1, COUNT)) for _ in errors.levels), QuietMonitor())
        found = features @ errors.coefficients[0]
        shares.append(float((found[:, :1] * u).mean() / (target * u).mean()))
    assert shares[0] == 0.0
    assert shares == sorted(shares)
    assert any(0.05 < share < 0.9 for share in shares)
    assert shares[-1] > 0.98


def test_a_fit_finds_them_for_its_own_draws() -> None:
    """Of log-normal maps, from what is told of them: other simulations are nearer to what is known then."""
    lognormal = load("simulator", "lognormal", size=16, extent=2.5)
    assert isinstance(lognormal, Simulator)
    simulations = Simulations(lognormal, 0)
    options = TransformerOptions(
        steps=1, width=16, depth=1, batch=4, guide_simulations=1024, law_simulations=2048, evaluations=3
    )
    fit = DiffusionTransformer(options).fit
    sampler = fit(simulations, seed=0, workspace=Workspace(), monitor=QuietMonitor())
    assert isinstance(sampler, TransformerSampler)
    denoiser, others = sampler.denoiser, simulations.held_out(0, 512)
    (field, u), told = denoiser.encode(others), denoiser.condition(others)
    log_sigma = torch.zeros(len(u))
    noisy = field + torch.randn(field.shape, generator=generator(1))
    ways = (denoiser.known_of_field, denoiser.guess_field)
    known, guessed = ((way(noisy, u, log_sigma, told).field - field).square() for way in ways)
    gain = (guessed - known).flatten(1).mean(1)
    assert gain.mean() > 5.0 * gain.std() / math.sqrt(len(gain))
