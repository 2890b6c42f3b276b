"""Noise levels: draws are as wide as their posterior, however narrow, or the sampler doubts them."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbikit import (
    Field,
    Normal,
    Prior,
    QuietMonitor,
    Sampler,
    Simulations,
    Simulator,
    Values,
    Vector,
    Workspace,
    draw_seeds,
    generator,
    normals,
)
from sbikit_transformer.diffusion import noise_levels, solve
from sbikit_transformer.estimator import DiffusionTransformer
from sbikit_transformer.field_levels import FIRSTS
from sbikit_transformer.levels import TrainingLevels, nothing_is_narrower
from sbikit_transformer.normal import innovation
from sbikit_transformer.options import TransformerOptions

ONE_STEP = {"steps": 1, "rate": 1e-6, "width": 16, "depth": 1, "heads": 2, "guide_simulations": 2048}


class Measured(Simulator):
    """theta ~ N(0, 1) and a white field y ~ N(0, 1), each measured with noise: all is known.

    Args:
        scalar, pixel: standard deviations of the noise of either; without `pixel` there is no field.
    """

    prior = Prior({"a": Normal(0.0, 1.0)})

    def __init__(self, scalar: float, pixel: float | None = None) -> None:
        super().__init__()
        self.scalar, self.pixel = scalar, pixel
        white = {"stationary": True, "periodic": True}
        fields = (Field("y", (4, 4), **white), Field("d", (4, 4), **white))
        self.outputs = (Vector("x", ("x",)), *(fields if pixel else ()))
        self.observed = ("x", "d") if pixel else ("x",)

    def simulate(self, parameters: Values, *, seeds: NDArray) -> dict[str, Tensor]:
        noise = normals(seeds, (33,))
        drawn = {"x": parameters["theta"] + self.scalar * noise[:, :1]}
        if self.pixel:
            y = noise[:, 1:17].reshape(-1, 1, 4, 4)
            drawn |= {"y": y, "d": y + self.pixel * noise[:, 17:].reshape(-1, 1, 4, 4)}
        return drawn


def fitted(simulator: Simulator, **options: float) -> Sampler:
    return DiffusionTransformer(TransformerOptions(**ONE_STEP | options)).fit(
        Simulations(simulator, 0), seed=0, workspace=Workspace(), monitor=QuietMonitor()
    )


def pulls(draws: Tensor, data: Tensor, s: float) -> Tensor:
    """Draws in units of the posterior N(x / (1 + s^2), s^2 / (1 + s^2))."""
    return (draws - data / (1.0 + s * s)) * math.sqrt(1.0 + s * s) / s


# --- the solver -----------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [16, 22, 32])
def test_the_solver_reaches_a_known_normal(steps: int) -> None:
    """x ~ N(m, s^2): D = (s^2 x + sigma^2 m) / (s^2 + sigma^2), and the flow is the map z -> m + s z."""
    mean, sd = torch.tensor(0.7), torch.tensor([3.0, 1.0, 0.3, 0.1, 0.03, 0.01])

    def denoise(state: Tensor, sigma: float) -> Tensor:
        return (sd**2 * state + sigma**2 * mean) / (sd**2 + sigma**2)

    z = torch.randn(1000, 6, generator=generator(3))
    found = solve(denoise, z, noise_levels(150.0, 0.002, steps))
    pull = (found.double() - mean) / sd
    error = (pull - z).square().mean(0).sqrt()
    assert float(error.max()) < {16: 0.07, 22: 0.02, 32: 0.005}[steps]


def test_a_flow_that_starts_about_the_mean_has_no_offset() -> None:
    """From 150 about zero draws of N(30, 1) lie 30 / 150 too low."""
    mean = torch.full((4, 1), 30.0, dtype=torch.float64)

    def denoise(state: Tensor, sigma: float) -> Tensor:
        return (state + sigma**2 * mean) / (1.0 + sigma**2)

    zero, levels = torch.zeros_like(mean), noise_levels(150.0, 0.002, 32)
    assert float((solve(denoise, zero, levels) - mean).abs().max()) == pytest.approx(0.2, rel=0.01)
    assert float((solve(denoise, zero, levels, mean) - mean).abs().max()) < 1e-9


def test_a_step_is_exact_where_the_denoiser_is_a_parabola_of_the_level() -> None:
    """D = 1 + 2 t + 3 t^2 of t = -ln sigma: the flow x' = D - x is x = 5 - 4 t + 3 t^2 + c e^-t."""
    levels = noise_levels(20.0, 0.1, 9)

    def exact(t: float) -> float:
        return 5.0 - 4.0 * t + 3.0 * t * t

    seen: list[tuple[float, float]] = []

    def denoise(state: Tensor, sigma: float) -> Tensor:
        t = -math.log(sigma)
        seen.append((t, float(state)))
        return torch.full_like(state, 1.0 + 2.0 * t + 3.0 * t * t)

    solve(denoise, torch.ones(1, 1, dtype=torch.float64), levels)
    t, x = seen[2]  # from the third evaluation on, steps look back on three values
    c = (x - exact(t)) * math.exp(t)
    for t, x in seen[3:]:
        assert x == pytest.approx(exact(t) + c * math.exp(-t), rel=1e-9)


# --- the law --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("narrowest", "with_field"), [(1.0, True), (0.02, True), (0.5, False), (0.001, False)]
)
def test_training_covers_what_sampling_visits(narrowest: float, with_field: bool) -> None:
    levels = TrainingLevels.resolving(narrowest, with_field=with_field)
    lowest = levels.ends()[-1]
    assert lowest <= 0.0021
    assert lowest <= max(narrowest / 4.9, 1e-4)
    drawn = levels.draw(20_000, generator(2)).exp()
    edges = torch.logspace(math.log10(lowest), math.log10(140.0), 7)
    shares = torch.histogram(drawn, edges).hist / len(drawn)
    assert bool((shares > 0.01).all())
    assert float(drawn.min()) > 0.99 * lowest


def test_ends_go_down_by_halves_to_the_lowest() -> None:
    ends = TrainingLevels.resolving(0.3, with_field=True).ends()
    assert ends[0] == 0.05
    assert ends[-1] == 0.002
    assert all(1.0 < a / b <= 2.0 for a, b in pairwise(ends))
    assert TrainingLevels.resolving(0.001, with_field=False).ends() == [pytest.approx(0.0002)]


def test_a_narrow_component_is_seen_in_the_noise_that_is_left() -> None:
    r = torch.tensor([1.0, 0.5, 0.3])
    assert nothing_is_narrower(r**2 / (r**2 + 0.05**2))
    r = torch.tensor([1.0, 0.1, 0.3])
    assert not nothing_is_narrower(r**2 / (r**2 + 0.05**2))


# --- draws ----------------------------------------------------------------------------------


@pytest.mark.parametrize("s", [0.3, 0.1, 0.05, 0.03, 0.01, 0.003, 0.001])
def test_a_scalar_is_as_wide_as_its_posterior(s: float) -> None:
    """The first law alone is exact here; after one step at next to no rate the network still says nothing."""
    simulator = Measured(s)
    sampler = fitted(simulator)
    x = torch.tensor([[-1.5], [0.0], [0.8]])
    draws = sampler.sample({"x": x}, 4000, seeds=draw_seeds(1, "test", 0, 3))
    pull = pulls(draws.values["theta"].double(), x.double(), s)
    # The law's own constants, of 2,048 simulations, are known to 1 / sqrt(4096) = 1.6 %.
    assert float(pull.std(0).mean()) == pytest.approx(1.0, abs=0.05)
    assert float(pull.mean(0).abs().max()) < 0.2
    assert all(one.trustworthy for one in draws.trust)


def test_scalar_and_field_are_as_wide_as_their_posteriors() -> None:
    simulator = Measured(0.02, 0.05)
    held_out = Simulations(simulator, 0).held_out(0, 4)
    draws = fitted(simulator).sample(
        {name: held_out[name] for name in ("x", "d")}, 500, seeds=draw_seeds(1, "test", 0, 4)
    )
    scalar = pulls(draws.values["theta"].double(), held_out["x"].double(), 0.02)
    field = pulls(draws.values["y"].double(), held_out["d"].double(), 0.05)
    assert float(scalar.std(0).mean()) == pytest.approx(1.0, abs=0.06)
    assert float(field.std(0).mean()) == pytest.approx(1.0, abs=0.06)
    assert all(one.trustworthy for one in draws.trust)


LASTS = (0.15, 0.25, 0.4)  # of which the best is taken where nothing is narrow


def is_one_of(level: float, levels: tuple[float, ...]) -> bool:
    return min(abs(level / one - 1.0) for one in levels) < 1e-6


def test_wide_posteriors_cost_no_further_evaluations() -> None:
    sampler = fitted(Measured(0.5, 1.0))
    assert len(sampler.field_levels) == 3
    assert is_one_of(sampler.field_levels[-1], LASTS)


@pytest.mark.parametrize(
    ("option", "firsts", "lasts", "count"),
    [
        ({"sigma_max": 10.0}, (10.0,), LASTS, 3),
        ({"evaluations": 13}, (36.0,), (0.15,), 13),
        ({"sigma_min": 0.02}, FIRSTS, (0.02,), 3),
        ({"sigma_min": 0.02, "evaluations": 9}, (36.0,), (0.02,), 9),
    ],
)
def test_levels_of_a_field_lie_where_options_say(
    option: dict[str, float], firsts: tuple[float, ...], lasts: tuple[float, ...], count: int
) -> None:
    levels = fitted(Measured(0.5, 1.0), **option).field_levels
    assert len(levels) == count
    assert is_one_of(levels[0], firsts)
    assert is_one_of(levels[-1], lasts)


def test_draws_at_the_last_level_are_doubted() -> None:
    sampler = fitted(Measured(0.01), sigma_min=0.05)
    x = torch.zeros(1, 1)
    draws = sampler.sample({"x": x}, 500, seeds=draw_seeds(1, "test", 0, 1))
    assert float(pulls(draws.values["theta"], x, 0.01).std()) < 0.5
    assert not draws.trust[0].trustworthy
    assert "last noise level" in draws.trust[0].complaints[0]
    few = sampler.sample({"x": x}, 8, seeds=draw_seeds(1, "test", 0, 1))
    assert few.trust[0].trustworthy  # of few draws the spread is not known


def test_training_goes_as_low_as_draws_are_told_to_end() -> None:
    sampler = fitted(Measured(0.5, 1.0), sigma_min=0.0005)
    for levels in (sampler.scalar_levels, sampler.field_levels):
        assert levels[-1] == pytest.approx(0.0005)
    for law in (sampler.denoiser.scalar_levels(), sampler.denoiser.field_levels()):
        drawn = law.draw(20_000, generator(0)).exp()
        assert float((drawn < 0.002).float().mean()) > 0.02


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0, 3.0])
def test_innovations_of_an_exact_guide_are_standard_normal(sigma: float) -> None:
    """Of u ~ N(m, v) a noisy value less the denoised one has the variance sigma^4 / (v + sigma^2), that of
    the noise less what is left. The guide is fitted to 2,048 simulations.
    """
    denoiser = fitted(Measured(0.5)).denoiser  # type: ignore[attr-defined]
    values = Simulations(Measured(0.5), 0).held_out(0, 4000)
    _, u = denoiser.encode(values)
    noisy = u + sigma * torch.randn(u.shape, generator=generator(3))
    level = torch.full((4000,), sigma)
    mean, sd = denoiser.condition(values).law.given_noisy(noisy, level)
    told = innovation(noisy - mean, sd, level[:, None]).clamp(-6, 6)
    exact = (noisy - (0.25 * noisy + sigma**2 * values["x"]) / (0.25 + 1.25 * sigma**2)) / sigma
    exact = exact / math.sqrt(1.0 - 0.2 / (0.2 + sigma**2))
    assert float(told.std()) == pytest.approx(1.0, abs=0.04)
    assert float((told - exact.clamp(-6, 6)).square().mean().sqrt()) < 0.06


def test_data_unlike_all_training_simulations_are_doubted() -> None:
    sampler = fitted(Measured(0.5, 1.0))
    held_out = Simulations(Measured(0.5, 1.0), 0).held_out(0, 2)
    shifted = {"x": held_out["x"], "d": held_out["d"] + torch.tensor([0.0, 1e6])[:, None, None, None]}
    usual, alien = sampler.sample(shifted, 2, seeds=draw_seeds(1, "test", 0, 2)).trust
    assert usual.trustworthy
    assert not alien.trustworthy
    assert "never trained on such data" in alien.complaints[0]
    far = {"x": held_out["x"] + 1e6, "d": held_out["d"]}
    assert not any(one.trustworthy for one in sampler.sample(far, 2, seeds=draw_seeds(1, "t", 0, 2)).trust)
