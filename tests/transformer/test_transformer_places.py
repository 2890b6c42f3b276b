"""The transformer where one place is not like another, against numpy's conditioning of a normal law."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bump import Bump
from numpy.typing import NDArray
from torch import Tensor

from sbikit import (
    Field,
    Normal,
    Prior,
    QuietMonitor,
    Simulations,
    Simulator,
    Values,
    Workspace,
    draw_seeds,
    generator,
    normals,
)
from sbikit.fields import Scales
from sbikit.learning import Parts
from sbikit_transformer.conditions import DataMap
from sbikit_transformer.constants import fit_constants
from sbikit_transformer.denoiser import Denoiser
from sbikit_transformer.estimator import DiffusionTransformer
from sbikit_transformer.grids import Grids
from sbikit_transformer.guide import Guide
from sbikit_transformer.linear_guide import LinearGuide
from sbikit_transformer.options import TransformerOptions
from sbikit_transformer.polynomials import Quadratic
from sbikit_transformer.transforms import WHITE, FieldMap

N = 12


class Trend(Simulator):
    """A line a x + b (1 - x) and a random walk that begins at 0, seen with noise that grows: all normal."""

    prior = Prior({"a": Normal(0.0, 1.0), "b": Normal(0.0, 1.0)})
    outputs = (Field("walk", (N,)), Field("data", (N,)))
    observed = ("data",)
    x = torch.linspace(0.0, 1.0, N, dtype=torch.float64)
    lines = torch.stack([x, 1.0 - x])
    steps = 0.4 * torch.tril(torch.ones(N, N, dtype=torch.float64))
    noise = 0.3 + 0.5 * x

    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        e = normals(seeds, (2, N)).double()
        walk = parameters["theta"].double() @ self.lines + e[:, 0] @ self.steps.T
        data = walk + self.noise * e[:, 1]
        return {"walk": walk[:, None].float(), "data": data[:, None].float()}

    def moments(self) -> NDArray[np.float64]:
        """Covariance of parameters, walk and data, (2 + 2 N, 2 + 2 N)."""
        root = torch.zeros(2 + 2 * N, 2 + 2 * N, dtype=torch.float64)
        root[:2, :2] = torch.eye(2)
        root[2 : 2 + N, :2] = root[2 + N :, :2] = self.lines.T
        root[2 : 2 + N, 2 : 2 + N] = root[2 + N :, 2 : 2 + N] = self.steps
        root[2 + N :, 2 + N :] = torch.diag(self.noise)
        return (root @ root.T).numpy()


@pytest.fixture(scope="module")
def trend() -> tuple[Trend, dict[str, Tensor], Denoiser]:
    simulator = Trend()
    simulations = Simulations(simulator, 0)
    denoiser = Denoiser(simulator, simulator.spec, patch=4, width=16, depth=1, heads=2, nodes=16)
    fit_constants(denoiser, [simulations.training(0, 8192)])
    return simulator, simulations.held_out(0, 200), denoiser


@pytest.mark.parametrize("sigma", [0.05, 0.5, 3.0, 150.0])
def test_the_linear_guide_is_the_exact_denoiser_of_a_normal_law(
    trend: tuple[Trend, dict[str, Tensor], Denoiser], sigma: float
) -> None:
    """The walk given noisy walk, data and clean parameters, and the parameters given data alone."""
    simulator, values, denoiser = trend
    y, u = denoiser.encode(values)
    noisy = y + sigma * torch.randn(y.shape, generator=generator(7))
    told = denoiser.condition(values)
    law = told.law.whole()
    assert isinstance(denoiser.guide, LinearGuide)
    guess = denoiser.guide(noisy, u, told.modes, told.vectors, torch.full((len(u),), sigma))
    # The working coordinates are the walk without its mean given the parameters, in units of its scatter.
    scatter = torch.sqrt((simulator.steps**2).sum(1)).numpy()
    moments = simulator.moments()
    everything = np.eye(2 + 2 * N)
    to_y = np.diag(1 / scatter) @ everything[2 : 2 + N]
    to_y[:, :2] = -simulator.lines.T.numpy() / scatter[:, None]

    def conditioned(target: NDArray[np.float64], seen: NDArray[np.float64], noise: NDArray[np.float64]):
        covariance = seen @ moments @ seen.T + noise
        gain = np.linalg.solve(covariance, seen @ moments @ target.T).T
        return gain, target @ moments @ target.T - gain @ seen @ moments @ target.T

    to_all = np.concatenate([everything[:2], everything[2 + N :], to_y])
    level = np.diag([0.0] * (2 + N) + [sigma**2] * N)
    gain, left = conditioned(to_y, to_all, level)
    seen = torch.cat([u, values["data"][:, 0], noisy[:, 0]], 1).double().numpy()
    sd = np.sqrt(np.diag(left))
    found = guess.field[:, 0].double().numpy()
    assert np.sqrt((((found - seen @ gain.T) / sd) ** 2).mean()) < 0.12  # from 8,192 simulations
    np.testing.assert_allclose(float(guess.error[0]), np.sqrt(np.diag(left).mean()), rtol=0.06)

    # The same law, without the noisy walk: its denoiser is the guide's.
    normal = denoiser.guide.expected(u, told.modes, told.vectors)
    along = normal.apart(noisy - normal.mean)
    shrunk = normal.sd.square() / (normal.sd.square() + sigma**2) * along
    torch.testing.assert_close(normal.mean + normal.together(shrunk), guess.field, rtol=1e-4, atol=1e-4)

    gain, left = conditioned(everything[:2], everything[2 + N :], np.zeros((N, N)))
    sd = np.sqrt(np.diag(left))
    expected = values["data"][:, 0].double().numpy() @ gain.T
    assert np.sqrt((((law.mean.numpy() - expected) / sd) ** 2).mean()) < 0.12
    np.testing.assert_allclose(law.sd[0].numpy(), sd, rtol=0.06)
    correlation = left[0, 1] / (sd[0] * sd[1])
    assert float(law.correlations()[0]) == pytest.approx(correlation, abs=0.05)


def test_each_pixel_has_its_mean_and_scale_and_comes_back(
    trend: tuple[Trend, dict[str, Tensor], Denoiser],
) -> None:
    _, values, denoiser = trend
    y, u = denoiser.encode(values)
    assert y.mean(0).abs().max() < 0.35
    torch.testing.assert_close(y.std(0), torch.ones(1, N), rtol=0, atol=0.2)
    torch.testing.assert_close(denoiser.decode((y, u))["walk"], values["walk"], rtol=1e-5, atol=1e-5)


def test_a_pixel_that_never_changes_is_drawn_as_it_is() -> None:
    class Fixed(Trend):
        def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
            made = super().simulate(parameters, seeds=seeds)
            made["walk"][..., 3] = 5.0
            return made

    simulator = Fixed()
    values = Simulations(simulator, 0).training(0, 256)
    mapped = FieldMap(simulator, simulator.spec.fields, Quadratic(torch.zeros(2, dtype=torch.bool)))
    u = values["theta"]
    mapped.fit(Parts.held({**values, WHITE: u}))
    drawn = mapped.decode(torch.randn(256, 1, N, generator=generator(1)), values, u)["walk"]
    torch.testing.assert_close(drawn[..., 3], torch.full((256, 1), 5.0), rtol=1e-5, atol=0)


def test_fields_that_are_stationary_have_the_guide_by_rings_and_no_other() -> None:
    def kind(problem: Simulator) -> type:
        return type(Denoiser(problem, problem.spec, patch=4, width=16, depth=1, heads=2, nodes=16).guide)

    assert kind(Bump(latent=True, stationary=True)) is Guide
    assert kind(Bump(latent=True)) is LinearGuide
    assert kind(Bump()) is type(None)


def test_what_is_told_of_a_stationary_periodic_map() -> None:
    """One scale a channel, log power by rings, log variance, skewness and mean, against numpy; then what maps
    look like at several scales, which has tests of its own.
    """
    problem = Bump((8, 8), stationary=True, channels=2)
    values = Simulations(problem, 0).training(0, 64)
    told = DataMap(problem, problem.spec, Grids.of(problem, problem.spec, (8, 8)))
    told.fit(Parts.held(told.seen(values)))
    maps, vectors = told.maps_and_vectors(told.seen(values))
    statistics = told.unscaled(maps)
    data = values["data"].double().numpy()
    scaled = (data - data.mean((0, 2, 3), keepdims=True)) / np.sqrt(
        data.var((0, 2, 3), ddof=1, keepdims=True)
    )
    np.testing.assert_allclose(maps.numpy(), scaled, atol=1e-5)
    assert vectors.shape[1] == 0
    k = np.fft.fftfreq(8) * 8
    square = (k[:, None] ** 2 + k[None, :] ** 2).round().astype(int)
    label = np.where(square <= 36, square, 1000 * np.sqrt(square).round().astype(int))
    modes = np.abs(np.fft.fft2(scaled)) ** 2 / 64
    power = np.stack([modes[..., label == ring].mean(-1) for ring in np.unique(label)], -1)
    power = np.log(power + 1e-6 * power.mean(-1, keepdims=True)).reshape(64, -1)
    centred = scaled - scaled.mean((2, 3), keepdims=True)
    variance = (centred**2).mean((2, 3))
    skewness = (centred**3).mean((2, 3)) / variance**1.5
    plain = np.concatenate([power, np.log(variance), skewness, scaled.mean((2, 3))], 1)
    count = plain.shape[1]
    np.testing.assert_allclose(statistics[:, :count].numpy(), plain, rtol=1e-4, atol=2e-5)
    shapes = Scales((8, 8), periodic=True)(maps)
    varies = shapes.std(0) > 0
    assert varies.float().mean() > 0.9
    torch.testing.assert_close(statistics[:, count:], shapes)


def test_what_is_told_of_a_map_that_is_not_stationary() -> None:
    """One scale a pixel, no rings, and components that tell of the place as much as all pixels do."""
    problem = Bump((24,))
    values = Simulations(problem, 0).training(0, 512)
    told = DataMap(problem, problem.spec, Grids.of(problem, problem.spec, (24,)))
    told.fit(Parts.held(told.seen(values)))
    maps, vectors = told.maps_and_vectors(told.seen(values))
    statistics = told.unscaled(maps)
    torch.testing.assert_close(maps.std(0), torch.ones(1, 24), rtol=0, atol=1e-3)
    assert (vectors.shape[1], statistics.shape[1]) == (24, 3 + Scales((24,), periodic=False).count(1))
    theta = values["theta"].double()

    def left(features: Tensor) -> float:
        design = torch.cat([torch.ones(512, 1), features.flatten(1)], 1).double()
        return float((theta - design @ torch.linalg.lstsq(design, theta).solution).std())

    assert left(vectors) == pytest.approx(left(values["data"]), rel=1e-3)
    assert left(vectors) < 0.5 * float(theta.std())


SHORT = TransformerOptions(steps=400, guide_simulations=2048, width=32, depth=2)


def posterior(problem: Bump, options: TransformerOptions) -> tuple[Tensor, Tensor]:
    """Of 32 observations: posterior sd over the exact one, and the mean's offset in exact sd."""
    sampler = DiffusionTransformer(options).fit(
        Simulations(problem, 0), seed=0, workspace=Workspace(), monitor=QuietMonitor()
    )
    data = Simulations(problem, 0).held_out(0, 32)["data"]
    draws = sampler.sample({"data": data}, 128, seeds=draw_seeds(1, "places", 0, 32)).values["theta"][..., 0]
    mean, sd = problem.exact(data)
    return draws.std(0) / sd, (draws.mean(0) - mean) / sd


def test_a_short_training_knows_the_place_unless_the_field_is_declared_stationary() -> None:
    """The exact sd is .35 of the prior's: 400 steps come near, but not from a guide blind to places."""
    problem = Bump(width=12.0, noise=1.0, latent=True)
    ratio, offset = posterior(problem, SHORT)
    assert float(ratio.mean()) < 1.6
    assert float(offset.square().mean().sqrt()) < 0.8
    blind, _ = posterior(Bump(width=12.0, noise=1.0, latent=True, stationary=True), SHORT)
    assert float(blind.mean()) > 1.5 * float(ratio.mean())


# One of 32 observations of the field gets draws 6.8 times as wide as they should be, 29 lie within a third.
_TOO_WIDE = pytest.mark.xfail(strict=True, reason="mean ratio of sds 1.265, rms offset 0.56: not mended yet")


@pytest.mark.slow
@pytest.mark.parametrize("kind", [pytest.param("field", marks=_TOO_WIDE), "vector"])
def test_the_place_of_a_bump_is_known_as_well_as_can_be(kind: str) -> None:
    ratio, offset = posterior(Bump(kind=kind, latent=True), TransformerOptions())
    assert float(ratio.mean()) == pytest.approx(1.0, abs=0.15)
    assert float(offset.square().mean().sqrt()) < 0.5
