"""Draws of scalars: the law at many levels, the network at few of them, and how few are enough."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from scipy.stats import kstest, norm
from torch import Tensor

from sbikit import QuietMonitor, generator
from sbikit_transformer.diffusion import noise_levels
from sbikit_transformer.normal import Mixture, Normal
from sbikit_transformer.scalar_flow import draw_scalars, enough_knots

FIRST, END = 150.0, 0.002


@dataclass
class Told:
    """All that the solver asks of a condition."""

    moments: Tensor

    def repeat(self, n: int) -> Told:
        return Told(self.moments.repeat_interleave(n, 0))


@dataclass
class Known:
    """A denoiser that is exact, of a law that need not be: `evaluations` says where it was asked.

    Args:
        exact: the posterior.
        law: what is known without the network.
    """

    exact: Mixture
    law: Mixture
    evaluations: list[float] = field(default_factory=list)
    coordinates: Any = field(default_factory=lambda: SimpleNamespace(size=1))
    end: Tensor = field(default_factory=lambda: torch.tensor([END, END]))

    def condition(self, values: dict[str, Tensor]) -> Told:
        return Told(self.law.whole().mean.repeat(len(values["x"]), 1))

    def guess_scalars(self, u: Tensor, log_sigma: Tensor, told: Told) -> tuple[Tensor, Tensor]:
        return self.law.given_noisy(u, log_sigma.exp())

    def denoise_scalars(self, u: Tensor, log_sigma: Tensor, told: Told) -> tuple[Tensor, Tensor]:
        self.evaluations.append(float(log_sigma[0].exp()))
        return self.exact.given_noisy(u, log_sigma.exp())[0], self.guess_scalars(u, log_sigma, told)[1]


def normal(mean: float, sd: float) -> Mixture:
    return Normal(torch.tensor([[mean]]), torch.tensor([[sd**2]]), torch.ones(1, 1, 1)).alone()


def mixture(means: list[float], sd: float) -> Mixture:
    """Of equal weights."""
    count = len(means)
    weight = torch.full((1, count), -math.log(count))
    one = torch.ones(1, count, 1)
    return Mixture(weight, torch.tensor(means).reshape(1, count, 1), sd**2 * one, one[..., None])


def drawn(denoiser: Known, knots: int, count: int = 20_000) -> Tensor:
    told: Any = denoiser.condition({"x": torch.zeros(count)})
    noise = torch.randn(count, 1, generator=generator(4))
    levels = noise_levels(FIRST, END, knots)
    return draw_scalars(denoiser, noise, told, levels)[:, 0].double()  # type: ignore[arg-type]


def knots_of(denoiser: Known) -> int:
    values = {"x": torch.zeros(8)}
    found = enough_knots(denoiser, values, generator(1), QuietMonitor(), first=FIRST)  # type: ignore[arg-type]
    denoiser.evaluations.clear()
    return found


def test_a_law_that_is_right_needs_the_fewest_evaluations_however_narrow_its_modes() -> None:
    exact = mixture([-1.0, 0.2, 1.1], 0.01)
    denoiser = Known(exact, exact)
    knots = knots_of(denoiser)
    assert knots == 5
    found = drawn(denoiser, knots)
    assert denoiser.evaluations == pytest.approx(noise_levels(FIRST, END, 5))

    def cdf(x: Tensor) -> Tensor:
        return sum(norm.cdf(x, mean, 0.01) for mean in (-1.0, 0.2, 1.1)) / 3.0

    assert kstest(found.numpy(), cdf).pvalue > 0.01
    inside = (found - 0.2)[(found - 0.2).abs() < 0.1]
    assert float(inside.std()) == pytest.approx(0.01, rel=0.03)  # 2 ln 2 / 6,700 draws: .9 % a standard error


@pytest.mark.parametrize(("mean", "sd"), [(0.3, 0.5), (-0.4, 0.9), (1.5, 0.1), (0.0, 1.8)])
def test_as_many_are_taken_as_a_law_that_is_wrong_needs(mean: float, sd: float) -> None:
    """The exact draws of a normal law are mean + sd z, whatever law the network started from."""
    denoiser = Known(normal(mean, sd), normal(0.0, 1.0))
    knots = knots_of(denoiser)
    assert knots > 5
    z = torch.randn(20_000, 1, generator=generator(4))[:, 0].double()
    found = drawn(denoiser, knots)
    off = (found - mean) / sd - z
    assert float(off.mean().abs()) < 0.02
    assert float(found.std() / (sd * z.std())) == pytest.approx(1.0, abs=0.01)


def test_evaluations_are_saved_where_a_law_is_nearly_right() -> None:
    assert knots_of(Known(normal(0.02, 0.98), normal(0.0, 1.0))) < 9
