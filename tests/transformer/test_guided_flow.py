"""The solver of fields: exact where the guide is right, good where it is not, and with few levels."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sbikit import QuietMonitor, Simulations, Simulator, generator
from sbikit_transformer import field_levels
from sbikit_transformer.constants import fit_constants
from sbikit_transformer.denoiser import Denoiser
from sbikit_transformer.diffusion import noise_levels
from sbikit_transformer.field_levels import FIRSTS, enough_levels, first_level, levels_tried
from sbikit_transformer.guided_flow import Expected, follow
from tests.transformer.test_levels import Measured

SHAPE = (1, 4, 4)
LEVELS = noise_levels(12.0, 0.15, 5)


def expected(mean: float, sd: Tensor) -> Expected:
    """Of pixels that are coordinates themselves."""
    return Expected(torch.full((1, *SHAPE), mean, dtype=sd.dtype), sd.view(SHAPE), torch.clone, torch.clone)


def normal(mean: float, sd: Tensor):
    """The denoiser of a normal law."""

    def denoise(x: Tensor, sigma: float) -> Tensor:
        variance = sd.view(SHAPE) ** 2
        return (variance * x + sigma**2 * mean) / (variance + sigma**2)

    return denoise


@pytest.mark.parametrize("levels", [[1.0], [150.0, 0.001], LEVELS])
def test_what_the_guide_knows_is_solved_exactly(levels: list[float]) -> None:
    """Draws are W + v e, whatever the levels: of v from far below the last to far above the first."""
    sd = torch.logspace(-2, 2, 16, dtype=torch.float64)
    noise = torch.randn(5, *SHAPE, generator=generator(1), dtype=torch.float64)
    wide = sd.clamp_min(0.1 * levels[-1])  # narrower ones are solved as if they were so wide
    found = follow(normal(30.0, wide), noise, expected(30.0, sd), levels)
    torch.testing.assert_close(found, 30.0 + wide.view(SHAPE) * noise, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("width", "mean"), [(0.7, 0.0), (0.85, 0.5), (1.0, 1.0), (1.2, 0.5), (1.5, 0.0)])
def test_a_guide_that_is_not_right_is_mended_by_few_levels(width: float, mean: float) -> None:
    """The law is so many times as wide as the guide expects, and its mean as many of its own standard
    deviations away. Of a normal law draws are its mean plus its width times the noise.
    """
    sd = torch.logspace(math.log10(0.3), math.log10(4.0), 16, dtype=torch.float64)
    true = width * sd
    offset = mean * true.view(SHAPE)

    def denoise(x: Tensor, sigma: float) -> Tensor:
        return offset + normal(0.0, true)(x - offset, sigma)

    for levels, most in ((LEVELS, 0.045), (noise_levels(20.0, 0.1, 8), 0.015)):
        still, moved = (
            follow(denoise, torch.full((1, *SHAPE), e).double(), expected(0.0, sd), levels) for e in (0, 1)
        )
        assert float(((still - offset) / true.view(SHAPE)).abs().max()) < 0.6 * most
        assert float(((moved - still) / true.view(SHAPE) - 1.0).abs().max()) < most


def test_more_levels_come_nearer() -> None:
    sd, true = torch.full((16,), 0.5).double(), torch.logspace(-1, 0, 16, dtype=torch.float64)
    one = torch.ones(1, *SHAPE, dtype=torch.float64)
    errors = []
    for count in (5, 10, 20, 40):
        found = follow(normal(0.0, true), one, expected(0.0, sd), noise_levels(36.0, 0.02, count))
        errors.append(float((found / true.view(SHAPE) - 1.0).abs().max()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.01 < errors[0]


# --- how many -------------------------------------------------------------------------------


def small(kind: type[Denoiser], simulator: Simulator) -> Denoiser:
    return kind(simulator, simulator.spec, patch=4, width=16, depth=1, heads=2, nodes=16)


def as_fitted(kind: type[Denoiser], denoiser: Denoiser) -> Denoiser:
    """Another kind that has learned the same."""
    other = small(kind, denoiser.simulator)
    other.load_state_dict(denoiser.state_dict())
    return other


@pytest.fixture(scope="module")
def silent() -> tuple[Simulations, Denoiser]:
    """A denoiser whose network says nothing and whose guide is right."""
    simulations = Simulations(Measured(0.5, 1.0), 0)
    simulator = simulations.simulator
    denoiser = small(Denoiser, simulator)
    fit_constants(denoiser, [simulations.training(0, 2048)])
    denoiser.end.fill_(0.05)
    return simulations, denoiser


def chosen(silent: tuple[Simulations, Denoiser], **options: float) -> list[float]:
    simulations, denoiser = silent
    return enough_levels(denoiser, simulations.training(5000, 16), generator(0), QuietMonitor(), **options)


@pytest.mark.parametrize("side", [4, 32, 64, 128])
def test_the_first_level_hides_the_mean_of_large_fields_as_that_of_small_ones(side: int) -> None:
    """Of a mean of variance .09, seen through noise in each of the pixels, a few per cent are told."""
    noise = first_level(side**2) / side
    told = 0.09 / (0.09 + noise**2)
    assert told < 0.07
    assert first_level(side**2) >= 36.0


def test_of_a_guide_that_is_right_the_fewest_levels_are_enough(silent: tuple[Simulations, Denoiser]) -> None:
    assert chosen(silent) in levels_tried(FIRSTS, 0.05)[0]
    assert len(chosen(silent)) == 3


def test_of_as_few_levels_the_best_are_taken(silent: tuple[Simulations, Denoiser]) -> None:
    """Of a sampler whose draws are shifted but where they begin at noise of 20."""
    simulations, denoiser = silent

    class Beginning(Denoiser):
        def draw_field(self, noise, u, condition, levels):
            found = super().draw_field(noise, u, condition, levels)
            return found + 0.001 * math.log(levels[0] / 20.0) * (len(levels) < 30)

    beginning = as_fitted(Beginning, denoiser)
    assert chosen((simulations, beginning))[0] == pytest.approx(20.0)


def test_masked_pixels_that_vary_too_little_are_seen_where_the_others_vary_too_much(
    silent: tuple[Simulations, Denoiser],
) -> None:
    """Of a sampler that has the variance of all pixels together right, from six levels on that of each."""
    simulations, denoiser = silent

    class Uneven(Denoiser):
        def draw_field(self, noise, u, condition, levels):
            places, self.places = self.places, self.places[:0]
            found = super().draw_field(noise, u, condition, levels)
            self.places = places
            if len(levels) >= 6 or len(places) == 0:
                return found
            factor = torch.where(places[0] > 0.0, 0.97, math.sqrt(2.0 - 0.97**2))
            mean = found.mean(0, keepdim=True)
            return mean + factor * (found - mean)

    uneven = as_fitted(Uneven, denoiser)
    assert len(chosen((simulations, uneven))) == 3
    uneven.places = (torch.arange(math.prod(denoiser.grid)) % 2.0).unflatten(0, denoiser.grid)[None]
    assert len(chosen((simulations, uneven))) == 6


def test_maps_that_look_wrong_are_seen_where_each_pixel_has_its_mean_and_variance(
    silent: tuple[Simulations, Denoiser],
) -> None:
    """Of a sampler that with fewer than five levels spreads half of the maps and flattens the others."""
    simulations, denoiser = silent

    class Uneven(Denoiser):
        def draw_field(self, noise, u, condition, levels):
            found = super().draw_field(noise, u, condition, levels)
            if len(levels) >= 5:
                return found
            mean, sd = found.mean(0), found.std(0)
            spread = torch.tensor([1.9, 0.1]).repeat(len(found) // 2).sqrt().view(-1, 1, 1, 1) * (
                found - mean
            )
            return mean + sd * (spread - spread.mean(0)) / spread.std(0)

    uneven = as_fitted(Uneven, denoiser)
    assert len(chosen((simulations, uneven))) == 5


def test_maps_that_are_not_themselves_are_seen_where_all_together_look_right(
    silent: tuple[Simulations, Denoiser],
) -> None:
    """Of a sampler that with fewer than five levels gives what one draw has of a residual to the next."""
    simulations, denoiser = silent

    class Passing(Denoiser):
        def draw_field(self, noise, u, condition, levels):
            found = super().draw_field(noise, u, condition, levels)
            return found if len(levels) >= 5 else found.roll(1, 0)

    passing = as_fitted(Passing, denoiser)
    assert len(chosen((simulations, passing))) == 5


def test_too_little_on_large_scales_is_seen_where_there_is_too_much_on_small_ones(
    silent: tuple[Simulations, Denoiser],
) -> None:
    """Of a sampler that has the variance of pixels right, from five levels on that of each mode."""
    simulations, denoiser = silent

    class Uneven(Denoiser):
        def draw_field(self, noise, u, condition, levels):
            found = super().draw_field(noise, u, condition, levels)
            if len(levels) >= 5:
                return found
            mean, sd = found.mean(0), found.std(0)
            modes = torch.fft.rfft2(found - mean)
            modes[..., 1:, :] *= 1.1
            uneven = torch.fft.irfft2(modes, s=SHAPE[1:])
            return mean + sd * uneven / uneven.std(0)

    uneven = as_fitted(Uneven, denoiser)
    assert len(chosen((simulations, uneven))) == 5


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_simulations_are_enough_to_choose_by(silent: tuple[Simulations, Denoiser], count: int) -> None:
    simulations, denoiser = silent
    shown = simulations.training(5000, count)
    assert len(enough_levels(denoiser, shown, generator(0), QuietMonitor())) == 3


def test_levels_go_where_they_are_told_to(silent: tuple[Simulations, Denoiser]) -> None:
    levels = chosen(silent, last=0.01)
    assert levels[-1] == pytest.approx(0.01)
    assert len(levels) == 3


class Narrow(Denoiser):
    """It knows a field ten times as well as its guide: y = 1 or -1 in all of a draw."""

    def denoise_field(self, field, u, log_sigma, condition):
        over = (
            field.mean((1, 2, 3), keepdim=True)
            * field[0].numel()
            / log_sigma.exp().square().view(-1, 1, 1, 1)
        )
        return torch.tanh(over).expand_as(field), torch.ones_like(field[:, :, :1, :1])


def test_a_field_that_is_far_from_what_the_guide_knows_gets_more_levels(
    silent: tuple[Simulations, Denoiser],
) -> None:
    simulations, denoiser = silent
    narrow = as_fitted(Narrow, denoiser)
    levels = chosen((simulations, narrow))
    assert len(levels) > 6
    u = torch.zeros(400, 1)
    told = narrow.condition(simulations.training(5000, 1)).repeat(400)
    noise = torch.randn(400, *SHAPE, generator=generator(3))
    with torch.no_grad():
        y = narrow.draw_field(noise, u, told, levels)
    # All pixels of a draw agree, and half of the draws are on either side.
    assert float((y.abs() - 1.0).abs().quantile(0.9)) < 0.05
    assert abs(float(y.mean())) < 3.0 / math.sqrt(400)


def test_draws_that_are_not_finite_are_not_enough(silent: tuple[Simulations, Denoiser]) -> None:
    """Of a network that fails where levels are far apart more levels are taken, and not its failure."""
    simulations, denoiser = silent

    class Failing(Denoiser):
        def draw_field(self, noise, u, condition, levels):
            found = super().draw_field(noise, u, condition, levels)
            return found if len(levels) > 5 else torch.full_like(found, math.nan)

    failing = as_fitted(Failing, denoiser)
    assert len(chosen((simulations, failing))) == 6


def test_where_none_are_enough_it_is_said(
    silent: tuple[Simulations, Denoiser], monkeypatch: pytest.MonkeyPatch
) -> None:
    simulations, denoiser = silent
    monkeypatch.setattr(field_levels, "_OF_SD", 1e-300)

    class Heard(QuietMonitor):
        said: list[str] = []

        def say(self, message: str) -> None:
            self.said.append(message)

    found = enough_levels(denoiser, simulations.training(5000, 16), generator(0), Heard())
    assert found in levels_tried(FIRSTS, 0.05)[-1]
    assert "are not enough" in Heard.said[0]
