"""The simulator's promises: reproducible draws, a right density and gradient, and refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

import sbikit_lognormal.simulator as simulator_module
from sbikit import (
    ObservationError,
    OptionError,
    SimulationError,
    SupportsFloor,
    SupportsLogDensity,
    SupportsObserve,
    SupportsSummaries,
)
from sbikit.seeds import draw_seeds, normals
from sbikit_lognormal.emulator import Table
from sbikit_lognormal.field import hartley
from sbikit_lognormal.simulator import LogNormal, LogNormalOptions
from sbikit_lognormal.spectra import ELL


def small() -> LogNormal:
    return LogNormal(LogNormalOptions(size=8, extent=5.0))


def draws(simulator: LogNormal, count: int) -> tuple[dict[str, Tensor], np.ndarray]:
    """Parameters and seeds."""
    seeds = draw_seeds(3, "simulator", 0, count)
    return simulator.prior.sample(draw_seeds(3, "parameters", 0, count)), seeds


def test_spec_and_capabilities() -> None:
    simulator = LogNormal()
    assert [v.name for v in simulator.spec.latents] == ["theta", "kappa"]
    assert [v.name for v in simulator.spec.observables] == ["shear"]
    assert simulator.spec["kappa"].shape == (1, 32, 32)
    assert simulator.spec["shear"].shape == (2, 32, 32)
    for capability in (SupportsFloor, SupportsLogDensity, SupportsObserve, SupportsSummaries):
        assert isinstance(simulator, capability)


@pytest.mark.parametrize("size", [16, 32])
def test_draw_is_the_same_alone_and_in_any_batch(size: int) -> None:
    simulator = LogNormal(LogNormalOptions(size=size))
    theta, seeds = draws(simulator, 300)
    together = simulator.simulate(theta, seeds=seeds)
    for rows in (slice(7, 8), slice(7, 9), slice(299, 300), slice(100, 230)):
        alone = simulator.simulate({"theta": theta["theta"][rows]}, seeds=seeds[rows])
        for name, value in together.items():
            assert torch.equal(alone[name], value[rows])
    assert not torch.equal(together["kappa"][0], together["kappa"][1])


def test_noise_alone() -> None:
    simulator = LogNormal()
    theta, seeds = draws(simulator, 200)
    outputs = simulator.simulate(theta, seeds=seeds)
    again = simulator.observe({"kappa": outputs["kappa"]}, seeds=seeds)
    assert torch.equal(again["shear"], outputs["shear"])
    clean = simulator.shear(outputs["kappa"], torch.zeros_like(outputs["shear"]))
    noise = (outputs["shear"] - clean) / simulator.noise
    n = noise.numel()
    assert abs(float(noise.mean())) < 4 / math.sqrt(n)
    assert abs(float(noise.square().mean()) - 1) < 4 * math.sqrt(2 / n)
    # The noise of a seed is not the white field of that seed.
    white = normals(seeds, (32, 32))
    assert abs(float((noise[:, 0] * white).mean())) < 4 / math.sqrt(white.numel())


def test_kaiser_squires_summary_of_clean_shear_is_the_map() -> None:
    simulator = LogNormal()
    theta, seeds = draws(simulator, 3)
    kappa = simulator.simulate(theta, seeds=seeds)["kappa"]
    clean = simulator.shear(kappa, torch.zeros(3, 2, 32, 32))
    summary = simulator.summaries({"shear": clean[None]})["kappa_ks"]
    assert summary.shape == (1, 3, 1, 32, 32)
    torch.testing.assert_close(summary[0], kappa - kappa.mean((-2, -1), keepdim=True), rtol=0, atol=1e-7)


def test_floor_bounds_every_map_and_depends_on_the_cosmology() -> None:
    simulator = LogNormal()
    theta, seeds = draws(simulator, 500)
    lowest = simulator.simulate(theta, seeds=seeds)["kappa"].amin((-2, -1))
    floor = simulator.floor(theta)["kappa"]
    assert floor.shape == (500, 1)
    assert bool((lowest > floor).all())
    assert float(floor.std() / floor.mean().abs()) > 0.05
    fixed = LogNormal(LogNormalOptions(shift=0.03)).floor(theta)["kappa"]
    torch.testing.assert_close(fixed, torch.full((500, 1), -0.03))


def test_log_density_gradient_agrees_with_finite_differences() -> None:
    simulator = small()
    theta, seeds = draws(simulator, 2)
    density = simulator.log_density(simulator.simulate(theta, seeds=seeds))
    white = normals(draw_seeds(0, "white", 0, 2), (density.size,)).double()
    assert torch.autograd.gradcheck(
        density.log_prob, (white.requires_grad_(),), eps=1e-5, atol=1e-5, rtol=1e-5
    )


def test_log_density_is_prior_and_gaussian_misfit() -> None:
    simulator = small()
    theta, seeds = draws(simulator, 2)
    observation = simulator.simulate(theta, seeds=seeds)
    density = simulator.log_density(observation)
    white = normals(draw_seeds(0, "white", 0, 2), (density.size,)).double()
    kappa = density.decode(white)["kappa"].float()
    clean = simulator.shear(kappa, torch.zeros(2, 2, 8, 8)).double()
    normal = torch.distributions.Normal(clean, simulator.noise)
    expected = normal.log_prob(observation["shear"].double()).sum((1, 2, 3))
    expected = expected + torch.distributions.Normal(0.0, 1.0).log_prob(white).sum(1)
    actual = density.log_prob(white)
    torch.testing.assert_close(actual[1] - actual[0], expected[1] - expected[0], rtol=1e-5, atol=1e-3)


def test_log_density_batches() -> None:
    simulator = small()
    theta, seeds = draws(simulator, 3)
    observation = simulator.simulate(theta, seeds=seeds)
    density = simulator.log_density(observation)
    white = normals(draw_seeds(0, "white", 0, 12), (density.size,)).double().reshape(2, 2, 3, -1)
    together = density.log_prob(white)
    assert together.shape == (2, 2, 3)
    assert together.dtype == torch.float64
    latents = density.decode(white)
    assert latents["theta"].shape == (2, 2, 3, 3)
    assert latents["kappa"].shape == (2, 2, 3, 1, 8, 8)
    for b in range(3):
        alone = simulator.log_density({"shear": observation["shear"][b : b + 1]})
        torch.testing.assert_close(alone.log_prob(white[1, 0, b : b + 1])[0], together[1, 0, b])


def test_decode_gives_back_what_was_simulated() -> None:
    simulator = small()
    theta, seeds = draws(simulator, 4)
    outputs = simulator.simulate(theta, seeds=seeds)
    modes = hartley(normals(seeds, (8, 8)).double()).flatten(1)
    white = torch.cat([simulator.prior.to_white(theta["theta"].double()), modes], dim=1)
    latents = simulator.log_density(outputs).decode(white)
    torch.testing.assert_close(latents["theta"].float(), theta["theta"])
    torch.testing.assert_close(latents["kappa"].float(), outputs["kappa"], rtol=0, atol=1e-7)


def test_truth_is_more_probable_than_another_cosmology_of_the_same_map_noise() -> None:
    simulator = LogNormal()
    theta, seeds = draws(simulator, 20)
    outputs = simulator.simulate(theta, seeds=seeds)
    density = simulator.log_density(outputs)
    modes = hartley(normals(seeds, (32, 32)).double()).flatten(1)
    truth = torch.cat([simulator.prior.to_white(theta["theta"].double()), modes], dim=1)
    other = torch.cat([truth[:, :3], modes.roll(1, 0)], dim=1)
    assert bool((density.log_prob(truth) > density.log_prob(other)).all())


@pytest.mark.parametrize(
    ("options", "bound"),
    [
        ({"omega_m": (0.10, 0.4)}, "lower bound 0.1 of Omega_m is below 0.15"),
        ({"s8": (0.6, 1.2)}, "upper bound 1.2 of S8 is above 1.1"),
        ({"w0": (-2.5, -0.2)}, "lower bound -2.5 of w0 is below -2; upper bound -0.2 of w0 is above -0.35"),
        ({"w0": (-0.5, -0.9)}, "lower bound -0.5 of w0 is not below the upper bound -0.9"),
    ],
)
def test_prior_outside_the_box_is_refused(options: dict[str, tuple[float, float]], bound: str) -> None:
    with pytest.raises(OptionError, match="emulator") as caught:
        LogNormal(LogNormalOptions.model_validate(options))
    assert caught.value.got == bound
    assert "Omega_m 0.15 to 0.5, S8 0.5 to 1.1, w0 -2 to -0.35" in caught.value.expected


def test_too_small_pixels_are_refused() -> None:
    with pytest.raises(OptionError, match="pixels") as caught:
        LogNormal(LogNormalOptions(size=256, extent=2.0))
    assert caught.value.got.startswith("0.469 arcmin")


def test_negative_mode_is_refused_with_its_cosmology(monkeypatch: pytest.MonkeyPatch) -> None:
    # Power in a narrow ring of modes has a correlation function that falls below -lambda^2.
    ring = np.log(1e-6 * np.exp(-(((ELL - 300.0) / 100.0) ** 2)) + 1e-14)
    constant = np.concatenate([ring, np.log([0.01])])
    coefficients = np.concatenate([constant[None], np.zeros((55, len(constant)))])
    monkeypatch.setattr(simulator_module, "find_table", lambda setting: Table(setting, ELL, coefficients, {}))
    with pytest.raises(SimulationError, match="negative power") as caught:
        LogNormal()
    assert caught.value.where == "Omega_m=0.17, S8=0.6, w0=-1.8"


def test_observation_that_does_not_fit_is_refused() -> None:
    simulator = small()
    with pytest.raises(ObservationError, match="does not fit"):
        simulator.log_density({"shear": torch.zeros(1, 2, 16, 16)})
    with pytest.raises(ObservationError, match="does not fit"):
        simulator.log_density({"shear": torch.full((1, 2, 8, 8), math.nan)})
