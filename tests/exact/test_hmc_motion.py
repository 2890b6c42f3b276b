"""The motion of HMC: reversible, of second order, exact where the posterior is normal."""

from __future__ import annotations

import math

import pytest
import torch
from exact_helpers import (
    Target,
    densities,
    normal,
    numbers,
    observe,
)
from torch import Tensor

from sbikit import Simulator
from sbikit.testing import GaussianField, GaussianFieldOptions, GaussianVector
from sbikit_exact.hmc import HMCOptions
from sbikit_exact.hmc.ensemble import Ensemble

CPU = torch.device("cpu")
OPTIONS = HMCOptions(warmup=50, path=2.0, target_accept=0.8)


# --- the motion -------------------------------------------------------------------------------


def ensemble(simulator: Simulator, observations: int, warmup: int = 60) -> Ensemble:
    density_of = densities(simulator, observe(simulator, observations))
    chains = Ensemble(
        density_of, OPTIONS.model_copy(update={"warmup": warmup}), list(range(observations)), CPU
    )
    chains.warm_up(lambda done: None)
    return chains


def moving(chains: Ensemble, size: int) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(0)
    z, momenta = torch.randn(2, 4, chains.count, size, generator=source, dtype=torch.float64)
    return z, momenta


def test_the_motion_is_reversible() -> None:
    """Forward, momenta turned round, and back: at the start again, whatever the number of steps."""
    chains = ensemble(GaussianField(GaussianFieldOptions(size=8)), 3)
    z, momenta = moving(chains, 66)
    step, steps = torch.tensor([0.3, 0.1, 0.2], dtype=torch.float64), torch.tensor([5, 40, 17])
    there, turned = chains.follow(z, momenta, step, steps)
    assert ((there - z).flatten(2).norm(dim=-1) > 0.5).all()
    back, final = chains.follow(there, -turned, step, steps)
    torch.testing.assert_close(back, z, rtol=0.0, atol=1e-9)
    torch.testing.assert_close(final, -momenta, rtol=0.0, atol=1e-9)


def test_the_energy_error_is_of_second_order() -> None:
    """Half the step, a quarter of the error: acceptance tends to 1."""
    simulator = GaussianField(GaussianFieldOptions(size=8))
    chains = ensemble(simulator, 2)
    density = densities(simulator, observe(simulator, 2))([0, 1])
    z, momenta = moving(chains, 66)

    def energy(z: Tensor, momenta: Tensor) -> Tensor:
        return 0.5 * momenta.square().sum(-1) - density.log_prob(z)

    def error(steps: int) -> float:
        step = torch.full((2,), 2.0 / steps, dtype=torch.float64)
        there, turned = chains.follow(z, momenta, step, torch.tensor([steps, steps]))
        return float((energy(there, turned) - energy(z, momenta)).square().mean().sqrt())

    coarse, fine, finest = error(40), error(80), error(160)
    assert coarse / fine == pytest.approx(4.0, rel=0.1)
    assert fine / finest == pytest.approx(4.0, rel=0.05)
    assert math.exp(-error(1280)) > 0.999


def test_what_is_normal_is_followed_exactly() -> None:
    """The motion of N(0, 1) is a rotation, at any step size."""
    chains = Ensemble(densities(Target(normal), numbers(0.0)), OPTIONS, [0], CPU)
    z, momenta = moving(chains, 2)
    step, steps = torch.tensor([1.3], dtype=torch.float64), torch.tensor([3])
    there, turned = chains.follow(z, momenta, step, steps)
    c, s = math.cos(3.9), math.sin(3.9)
    torch.testing.assert_close(there, c * z + s * momenta)
    torch.testing.assert_close(turned, c * momenta - s * z)


def test_every_observation_takes_its_own_number_of_steps() -> None:
    """Those that have arrived stay where they are."""
    chains = ensemble(GaussianVector(), 2)
    z, momenta = moving(chains, 2)
    step = torch.tensor([0.1, 0.2], dtype=torch.float64)
    both = chains.follow(z, momenta, step, torch.tensor([3, 9]))
    first = chains.follow(z, momenta, step, torch.tensor([3, 3]))
    second = chains.follow(z, momenta, step, torch.tensor([9, 9]))
    for part, one, other in zip(both, first, second, strict=True):
        torch.testing.assert_close(part[:, 0], one[:, 0], rtol=1e-14, atol=0.0)
        torch.testing.assert_close(part[:, 1], other[:, 1], rtol=1e-14, atol=0.0)
