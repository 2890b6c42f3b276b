"""The simulator's promises: reproducible draws, a right density and gradient, and refusals."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lognormal_helpers import white_density
from torch import Tensor

import sbikit_lognormal.spectra.choice as choice_module
from sbikit import (
    Field,
    ObservationError,
    OptionError,
    SimulationError,
    SupportsFacts,
    SupportsFloor,
    SupportsLogDensity,
    SupportsMarginalDensity,
    SupportsObserve,
    SupportsSummaries,
    UnsupportedError,
    draw_seeds,
    normals,
    supports,
)
from sbikit.runs import load_config
from sbikit.testing import check_simulator
from sbikit_lognormal.cosmology import Parameters
from sbikit_lognormal.field import Pixels, power_matrix
from sbikit_lognormal.simulator import LogNormal, LogNormalOptions
from sbikit_lognormal.spectra import ELL, DirectSpectra, PolynomialSpectra, Spectra, fastest, make_sources
from sbikit_lognormal.survey import KaiserSquires

TWO_BINS: dict[str, Any] = {"size": 8, "extent": 5.0, "sources": {"bins": 2}}
NUISANCES: dict[str, Any] = {
    **TWO_BINS,
    "prior": "wcdm",
    "a_ia": {"uniform": [-3.0, 3.0]},
    "eta_ia": {"normal": [0.0, 1.0]},
    "baryons": {"uniform": [7.6, 8.3]},
    "photo_z_shift": {"normal": [0.0, 0.02]},
    "shear_bias": [{"normal": [0.0, 0.02]}, 0.01],
}
GAUSSIAN: dict[str, Any] = {"field": "gaussian"}
CONVERGENCE: dict[str, Any] = {"observes": "convergence"}
CAPABILITIES = (
    SupportsFacts,
    SupportsFloor,
    SupportsLogDensity,
    SupportsMarginalDensity,
    SupportsObserve,
    SupportsSummaries,
)
SURVEY: dict[str, Any] = {
    "mask": {"density": 8.0, "radius": 4.0, "edge": 10.0},
    "depth": {"scatter": 0.3, "scale": 60.0},
}


def made(**options: Any) -> LogNormal:
    """A simulator of options as a configuration file has them."""
    return LogNormal(LogNormalOptions.model_validate_json(json.dumps(options)))


def chosen(preset: str = "quick", file: Path | None = None) -> LogNormalOptions:
    """The simulator's options in a configuration."""
    options = load_config(preset, file).simulator.options
    assert isinstance(options, LogNormalOptions)
    return options


def small() -> LogNormal:
    return made(size=8, extent=5.0)


def draws(simulator: LogNormal, count: int) -> tuple[dict[str, Tensor], np.ndarray]:
    """Parameters and seeds."""
    seeds = draw_seeds(3, "simulator", 0, count)
    return simulator.prior.sample(draw_seeds(3, "parameters", 0, count)), seeds


def white_truth(simulator: LogNormal, theta: Tensor, seeds: np.ndarray) -> Tensor:
    """White coordinates of simulated draws."""
    maps = normals(seeds, (simulator.bins, simulator.box, simulator.box)).double().flatten(1)
    return torch.cat([simulator.prior.to_white(theta.double()), maps], dim=1)


def test_spec_and_capabilities() -> None:
    simulator = made(sources={"bins": 3}, wiener=True)
    assert [v.name for v in simulator.spec.latents] == ["theta", "kappa"]
    assert [v.name for v in simulator.spec.observables] == ["shear"]
    assert simulator.spec["kappa"].shape == (3, 32, 32)
    assert simulator.spec["shear"].shape == (6, 32, 32)
    for capability in CAPABILITIES:
        assert supports(simulator, capability)
    assert [(s.name, s.latex, s.shape, s.estimates) for s in simulator.summarised] == [
        ("kappa_ks", r"\kappa^{\rm KS}", (3, 32, 32), "kappa"),
        ("kappa_wiener", r"\kappa^{\rm W}", (3, 32, 32), "kappa"),
    ]
    assert {s.extent_unit for s in simulator.summarised} == {"deg"}


def test_gaussian_maps_have_no_floor_and_observed_convergence_no_summaries() -> None:
    gaussian = made(**GAUSSIAN)
    assert gaussian.floor(draws(gaussian, 2)[0]) == {}
    assert [s.name for s in gaussian.summarised] == ["kappa_ks"]
    convergence = made(**CONVERGENCE, sources={"bins": 3}, padding=2)
    assert [v.name for v in convergence.spec.observables] == ["kappa_obs"]
    assert convergence.spec["kappa_obs"].shape == (3, 32, 32)
    assert convergence.summarised == ()
    assert convergence.summaries({"kappa_obs": torch.zeros(2, 3, 32, 32)}) == {}


@pytest.mark.parametrize(
    "options",
    [
        {"size": 8, "extent": 5.0, **GAUSSIAN},
        {**NUISANCES, **SURVEY, **GAUSSIAN, "padding": 2, "wiener": True, "quadratics": 4},
        {"size": 8, "extent": 5.0, **CONVERGENCE},
        {**NUISANCES, **SURVEY, **CONVERGENCE, "padding": 2},
        {**TWO_BINS, **CONVERGENCE, **GAUSSIAN},
    ],
)
def test_contract(options: dict[str, Any]) -> None:
    check_simulator(made(**options))


def test_noise_alone_cannot_be_drawn_where_the_map_does_not_fix_the_shear() -> None:
    simulator = made(padding=2)
    theta, seeds = draws(simulator, 2)
    outputs = simulator.simulate(theta, seeds=seeds)
    with pytest.raises(UnsupportedError, match="does not fix its shear") as caught:
        simulator.observe({**theta, **outputs}, seeds=seeds)
    assert caught.value.got == "padding: 2"


@pytest.mark.parametrize(
    "options",
    [
        {"size": 16},
        {"size": 32, **SURVEY},
        {**NUISANCES, "size": 16, "padding": 2},
        {"size": 64, "extent": 5.0, "prior": "wcdm", "sources": {"bins": 5}, "shift": "tree-level"},
        {"size": 32, "sources": {"bins": 3}, **GAUSSIAN},
        {"size": 16, "padding": 2, **SURVEY, **CONVERGENCE},
    ],
)
def test_draw_is_the_same_alone_and_in_any_batch(options: dict[str, Any]) -> None:
    simulator = made(**options)
    theta, seeds = draws(simulator, 150)
    together = simulator.simulate(theta, seeds=seeds)
    for rows in (slice(7, 8), slice(7, 9), slice(149, 150), slice(33, 101)):
        alone = simulator.simulate({"theta": theta["theta"][rows]}, seeds=seeds[rows])
        for name, value in together.items():
            assert torch.equal(alone[name], value[rows])
    assert not torch.equal(together["kappa"][0], together["kappa"][1])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"sources": {"bins": 2}, "shear_bias": [0.05, -0.05], **SURVEY},
        {"sources": {"bins": 2}, "shear_bias": [0.05, {"normal": [0.0, 0.3]}]},
    ],
)
def test_noise_alone(options: dict[str, Any]) -> None:
    simulator = made(**options)
    theta, seeds = draws(simulator, 200)
    outputs = simulator.simulate(theta, seeds=seeds)
    again = simulator.observe({**theta, "kappa": outputs["kappa"]}, seeds=seeds)
    assert torch.equal(again["shear"], outputs["shear"])
    other = simulator.observe({**theta, "kappa": outputs["kappa"]}, seeds=seeds + 1)
    noise = (outputs["shear"] - other["shear"]).unflatten(1, (simulator.bins, 2)) / math.sqrt(2)
    noise = noise[..., simulator.survey.mask] / simulator.survey.noise[:, None, simulator.survey.mask]
    n = noise.numel()
    assert abs(float(noise.mean())) < 4 / math.sqrt(n)
    assert abs(float(noise.square().mean()) - 1) < 4 * math.sqrt(2 / n)


@pytest.mark.parametrize(
    "options", [{}, {"sources": {"bins": 2}, "shear_bias": 0.05, "padding": 2, **SURVEY}]
)
def test_noise_of_observed_convergence(options: dict[str, Any]) -> None:
    simulator = made(**options, **CONVERGENCE)
    theta, seeds = draws(simulator, 200)
    outputs = simulator.simulate(theta, seeds=seeds)
    again = simulator.observe({**theta, "kappa": outputs["kappa"]}, seeds=seeds)
    assert torch.equal(again["kappa_obs"], outputs["kappa_obs"])
    seen, scale = simulator.survey.mask, 1.05 if options else 1.0
    noise = (outputs["kappa_obs"] - scale * outputs["kappa"])[..., seen] / simulator.survey.noise[:, seen]
    n = noise.numel()
    assert abs(float(noise.mean())) < 4 / math.sqrt(n)
    assert abs(float(noise.square().mean()) - 1) < 4 * math.sqrt(2 / n)
    assert not bool(outputs["kappa_obs"][..., ~seen].any())
    # That of one component of shear: the galaxies of a pixel, 27 an arcmin^2 in all.
    if not options:
        assert float(simulator.survey.noise[0, 0, 0]) == pytest.approx(0.26 / math.sqrt(27 * 18.75**2))


def test_maps_have_the_mode_power_of_their_parameters() -> None:
    """Gaussian and log-normal ones, in each mode of two bins and their cross-power."""
    count = 2000
    for options in (GAUSSIAN, {}, {"pixel_window": False}):
        simulator = made(**TWO_BINS, **options)
        theta = simulator.prior.from_white(torch.full((1, 3), 0.7))
        kappa = simulator.simulate({"theta": theta.expand(count, 3)}, seeds=draws(simulator, count)[1])[
            "kappa"
        ]
        modes = torch.fft.rfft2(kappa.double())[..., :5, :] / 8
        power = simulator.mode_power(theta[0])
        assert power.shape == (3, 5, 5)
        assert power.dtype == torch.float64
        for pair, (i, j) in enumerate(((0, 0), (1, 0), (1, 1))):
            products = (modes[:, i] * modes[:, j].conj()).real
            pull = (products.mean(0) - power[pair]) / (products.std(0) / math.sqrt(count))
            assert float(pull.abs().max()) < 4.5
            assert float((products.std(0) / power[pair]).max()) / math.sqrt(count) < 0.05


def test_without_pixel_window_a_mode_has_the_power_of_its_multipole() -> None:
    plain, averaged = made(pixel_window=False), made()
    theta = plain.prior.from_white(torch.full((3,), 0.7, dtype=torch.float64))
    (spectrum,), _ = plain.spectra(theta)
    modes = np.arange(17)
    ell = np.hypot(modes[:, None], modes) * 36.0  # 2 pi over 10 degrees
    c_ell = np.exp(np.interp(np.log(np.maximum(ell, 36.0)), np.log(ELL), np.log(spectrum.numpy())))
    ratio = plain.mode_power(theta)[0].numpy() / (c_ell * (32 / math.radians(10.0)) ** 2)
    assert np.abs(ratio.ravel()[1:] - 1).max() < 0.003  # the interpolation is linear between multipoles
    # By default a pixel holds the mean over its square, with what is smaller aliased.
    matrix = torch.from_numpy(power_matrix(Pixels(32, math.radians(10.0)), ELL))
    expected = (matrix @ spectrum)[Pixels(32, 1.0).lag_index[:17, :17]] * (32 / math.radians(10.0)) ** 2
    torch.testing.assert_close(averaged.mode_power(theta)[0], expected, rtol=1e-12, atol=0)
    lost = (averaged.mode_power(theta) / plain.mode_power(theta))[0]
    assert float(lost[0, 1]) == pytest.approx(np.sinc(1 / 32) ** 2, rel=1e-3)
    assert float(lost[0, 8]) < 0.9


def test_mode_power_is_differentiable() -> None:
    simulator = made(**TWO_BINS, **GAUSSIAN, prior="wcdm")
    theta = simulator.prior.from_white(torch.zeros(6, dtype=torch.float64)).requires_grad_()
    scale = simulator.mode_power(theta).detach()
    assert torch.autograd.gradcheck(lambda t: simulator.mode_power(t) / scale, theta, eps=1e-5, atol=1e-4)


def test_noise_of_a_seed_is_not_its_white_field() -> None:
    simulator = made()
    theta, seeds = draws(simulator, 200)
    kappa = simulator.simulate(theta, seeds=seeds)["kappa"]
    noise = (
        simulator.observe({**theta, "kappa": 0 * kappa}, seeds=seeds)["shear"][:, 0]
        / simulator.survey.noise[0]
    )
    white = normals(seeds, (32, 32))
    assert abs(float((noise * white).mean())) < 4 / math.sqrt(white.numel())
    assert float(noise.std()) == pytest.approx(1.0, abs=0.01)


def test_noise_of_the_paper() -> None:
    paper = made(size=128, extent=5.0, prior="wcdm", sources={"bins": 5})
    expected = torch.full((5, 128, 128), 0.0477, dtype=torch.float64)
    torch.testing.assert_close(paper.survey.noise, expected, rtol=2e-3, atol=0)


def test_masked_pixels_hold_nothing() -> None:
    simulator = made(**SURVEY)
    theta, seeds = draws(simulator, 4)
    shear = simulator.simulate(theta, seeds=seeds)["shear"]
    hidden = ~simulator.survey.mask
    assert 0.05 < float(hidden.double().mean()) < 0.7
    assert not bool(shear[..., hidden].any())
    assert bool((shear[..., ~hidden] != 0).all())


def test_summaries_of_a_good_survey_are_the_map() -> None:
    simulator = made(n_gal=1e5, wiener=True, sources={"bins": 2})
    theta, seeds = draws(simulator, 3)
    outputs = simulator.simulate(theta, seeds=seeds)
    summaries = simulator.summaries({"shear": outputs["shear"][None]})
    kappa = outputs["kappa"] - outputs["kappa"].mean((-2, -1), keepdim=True)
    assert set(summaries) == {"kappa_ks", "kappa_wiener"}
    for summary in summaries.values():
        assert summary.shape == (1, 3, 2, 32, 32)
        error = (summary[0] - kappa).std((-2, -1)) / kappa.std((-2, -1))
        assert float(error.max()) < 0.08


def test_wiener_map_is_nearer_than_kaiser_squires() -> None:
    simulator = made(wiener=True, size=64, extent=5.0, **SURVEY)
    theta, seeds = draws(simulator, 40)
    outputs = simulator.simulate(theta, seeds=seeds)
    errors = {
        name: float((summary - outputs["kappa"]).square().mean())
        for name, summary in simulator.summaries({"shear": outputs["shear"]}).items()
    }
    assert errors["kappa_wiener"] < 0.8 * errors["kappa_ks"]
    assert errors["kappa_wiener"] < float(outputs["kappa"].square().mean())


@pytest.mark.parametrize("shift", ["hilbert2011", "tree-level"])
def test_floor_bounds_every_map_and_depends_on_the_cosmology(shift: str) -> None:
    simulator = made(shift=shift, sources={"bins": 2})
    theta, seeds = draws(simulator, 300)
    lowest = simulator.simulate(theta, seeds=seeds)["kappa"].amin((-2, -1))
    floor = simulator.floor(theta)["kappa"]
    assert floor.shape == (300, 2)
    assert bool((lowest > floor).all())
    assert bool((floor.std(0) / floor.mean(0).abs() > 0.05).all())


def test_fixed_shifts() -> None:
    simulator = made(shift=[0.03, 0.05], sources={"bins": 2})
    theta, _ = draws(simulator, 5)
    torch.testing.assert_close(simulator.floor(theta)["kappa"], -torch.tensor([0.03, 0.05]).expand(5, 2))


def test_padded_patch_is_not_periodic() -> None:
    """Across opposite edges a periodic map is smooth, a cut-out is not."""
    jumps = []
    for padding in (1, 2):
        simulator = made(padding=padding)
        theta, seeds = draws(simulator, 100)
        kappa = simulator.simulate(theta, seeds=seeds)["kappa"]
        across = (kappa[..., 0] - kappa[..., -1]).square().mean()
        inside = (kappa[..., 1:] - kappa[..., :-1]).square().mean()
        jumps.append(float(across / inside))
    assert jumps[0] == pytest.approx(1.0, abs=0.1)
    assert jumps[1] > 1.5


def test_baryons_and_alignments_change_the_map_and_not_its_seed() -> None:
    plain, feedback, aligned = made(), made(baryons=8.3), made(a_ia=3.0)
    theta, seeds = draws(plain, 50)
    maps = [one.simulate(theta, seeds=seeds)["kappa"] for one in (plain, feedback, aligned)]
    for other in maps[1:]:
        correlation = torch.corrcoef(torch.stack([maps[0].flatten(), other.flatten()]))[0, 1]
        assert 0.99 < float(correlation) < 0.999999
    # Galaxies point at matter, so that alignment takes power away; feedback does so at small scales.
    assert float(maps[2].var()) < 0.98 * float(maps[0].var())
    assert float(maps[1].var()) < 0.995 * float(maps[0].var())


def test_bias_scales_the_shear() -> None:
    plain, biased = made(n_gal=1e6), made(n_gal=1e6, shear_bias=0.1)
    theta, seeds = draws(plain, 3)
    one, other = (s.simulate(theta, seeds=seeds)["shear"] for s in (plain, biased))
    torch.testing.assert_close(other, 1.1 * one, rtol=0, atol=5e-5)


BIASED: dict[str, Any] = {"shear_bias": 0.02}
DENSITIES = [
    {"size": 8, "extent": 5.0, **BIASED},
    {**NUISANCES, "size": 8, "padding": 2},
    {**TWO_BINS, **SURVEY},
    {**TWO_BINS, **SURVEY, **GAUSSIAN},
    {**NUISANCES, **SURVEY, **CONVERGENCE},
]


@pytest.mark.parametrize("options", DENSITIES)
def test_log_density_gradient_agrees_with_finite_differences(options: dict[str, Any]) -> None:
    """Along random directions and every parameter, to 1e-6 of the gradient."""
    simulator = made(**options)
    theta, seeds = draws(simulator, 1)
    density = simulator.log_density(simulator.simulate(theta, seeds=seeds))
    white = normals(draw_seeds(0, "white", 0, 1), (density.size,)).double().requires_grad_()
    (gradient,) = torch.autograd.grad(density.log_prob(white).sum(), white)
    some = normals(draw_seeds(0, "directions", 0, 12), (density.size,)).double()
    directions = torch.cat([torch.eye(density.size, dtype=torch.float64)[: len(simulator.prior.laws)], some])
    h = 1e-2
    with torch.no_grad():
        at = white + torch.tensor([-2.0, -1.0, 1.0, 2.0])[:, None, None, None] * h * directions[:, None]
        far_below, below, above, far_above = density.log_prob(at)
        difference = (8 * (above - below) - (far_above - far_below)) / (12 * h)
    expected = directions @ gradient[0]
    scale = directions.norm(dim=1) * gradient.norm()
    assert float(((difference[:, 0] - expected).abs() / scale).max()) < 1e-6
    assert float(gradient[0, : len(simulator.prior.laws)].abs().min()) > 1e-3


def test_log_density_is_prior_and_gaussian_misfit() -> None:
    simulator = made(**NUISANCES, **SURVEY)
    theta, seeds = draws(simulator, 2)
    observation = simulator.simulate(theta, seeds=seeds)
    density = white_density(simulator, observation)
    white = normals(draw_seeds(0, "white", 0, 2), (density.size,)).double()
    latents = density.decode(white)
    bias = 1 + torch.stack([latents["theta"][:, -1], torch.full((2,), 0.01).double()], 1)
    clean = KaiserSquires(8, torch.float64).shear(latents["kappa"])
    clean = clean * bias[:, :, None, None, None]
    seen = simulator.survey.mask
    noise = simulator.survey.noise[:, None, seen].expand(2, 2, 2, -1)
    normal = torch.distributions.Normal(clean[..., seen], noise)
    data = observation["shear"].double().unflatten(1, (2, 2))[..., seen]
    expected = normal.log_prob(data).sum((1, 2, 3))
    expected = expected + torch.distributions.Normal(0.0, 1.0).log_prob(white).sum(1)
    actual = density.log_prob(white)
    torch.testing.assert_close(actual[1] - actual[0], expected[1] - expected[0], rtol=1e-8, atol=1e-6)


def test_log_density_given_convergence_is_prior_and_gaussian_misfit() -> None:
    simulator = made(**TWO_BINS, **SURVEY, **CONVERGENCE, shear_bias=[0.03, -0.02])
    theta, seeds = draws(simulator, 2)
    observation = simulator.simulate(theta, seeds=seeds)
    density = white_density(simulator, observation)
    white = normals(draw_seeds(0, "white", 0, 2), (density.size,)).double()
    seen, scale = simulator.survey.mask, torch.tensor([1.03, 0.98], dtype=torch.float64)
    clean = density.decode(white)["kappa"] * scale[:, None, None]
    normal = torch.distributions.Normal(clean[..., seen], simulator.survey.noise[:, seen].expand(2, 2, -1))
    expected = normal.log_prob(observation["kappa_obs"].double()[..., seen]).sum((1, 2))
    expected = expected + torch.distributions.Normal(0.0, 1.0).log_prob(white).sum(1)
    actual = density.log_prob(white)
    torch.testing.assert_close(actual[1] - actual[0], expected[1] - expected[0], rtol=1e-8, atol=1e-6)
    with pytest.raises(ObservationError, match="kappa_obs does not fit"):
        simulator.log_density({"kappa_obs": torch.zeros(1, 4, 8, 8)})


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


@pytest.mark.parametrize("options", DENSITIES)
def test_decode_gives_back_what_was_simulated(options: dict[str, Any]) -> None:
    simulator = made(**options)
    theta, seeds = draws(simulator, 4)
    outputs = simulator.simulate(theta, seeds=seeds)
    white = white_truth(simulator, theta["theta"], seeds)
    latents = white_density(simulator, outputs).decode(white)
    torch.testing.assert_close(latents["theta"].float(), theta["theta"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(latents["kappa"].float(), outputs["kappa"], rtol=0, atol=3e-7)


def test_truth_is_more_probable_than_another_map() -> None:
    simulator = made(**BIASED)
    theta, seeds = draws(simulator, 20)
    outputs = simulator.simulate(theta, seeds=seeds)
    density = white_density(simulator, outputs)
    truth = white_truth(simulator, theta["theta"], seeds)
    other = torch.cat([truth[:, :3], truth[:, 3:].roll(1, 0)], dim=1)
    assert bool((density.log_prob(truth) > density.log_prob(other)).all())


def direct(simulator: LogNormal) -> tuple[DirectSpectra, Spectra]:
    """The direct way to the spectra, and the one in use."""
    used = simulator._engine(torch.float64, torch.device("cpu")).spectra
    return (used if isinstance(used, DirectSpectra) else used.direct), used  # type: ignore[attr-defined]


def test_polynomials_are_the_direct_way() -> None:
    simulator = made(sources={"bins": 3})
    slow, used = direct(simulator)
    assert isinstance(used, PolynomialSpectra)
    theta = draws(simulator, 64)[0]["theta"]
    for ours, theirs in zip(used(theta), slow(theta), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-4, atol=0)
    gradient = torch.func.jacrev(lambda t: torch.log(used(t)[1]))(theta[0].double())
    expected = torch.func.jacrev(lambda t: torch.log(slow(t)[1]))(theta[0].double())
    torch.testing.assert_close(gradient, expected, rtol=1e-2, atol=1e-3)


def test_polynomials_that_do_not_fit_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    slow, _ = direct(made())
    monkeypatch.setattr("sbikit_lognormal.spectra.polynomials._DEGREE", 2)
    assert fastest(slow) is slow


def test_six_parameters_take_the_direct_way() -> None:
    simulator = made(prior="wcdm")
    assert list(simulator.prior.laws) == ["omega_c", "omega_b", "sigma_8", "h", "n_s", "w_0"]
    slow, used = direct(simulator)
    assert slow is used


@pytest.mark.parametrize(
    ("options", "message", "got"),
    [
        ({"s8": (0.6, 2.5)}, "emulator covers", "Omega_m=0.17, S8=2.5"),
        ({"w0": (-2.5, -0.5)}, "emulator covers", "w0=-2.5"),
        ({"w0": (-0.5, -0.9)}, "is empty", "-0.5 to -0.9"),
        ({"prior": "wcdm", "s8": (0.6, 0.9)}, "the prior is wcdm", "s8 = (0.6, 0.9)"),
        ({"eta_ia": 1.0}, "slope of intrinsic alignments", "eta_ia 1.0"),
        ({"baryons": 9.0}, "log_T_AGN leave", "9 to 9"),
        ({"photo_z_shift": 0.2}, "dz_1 leave", "0.2 to 0.2"),
        ({"shear_bias": [0.01, 0.02]}, "as many values of shear_bias as bins", "2"),
        ({"shift": [0.01, 0.02]}, "shifts do not fit", "0.01, 0.02"),
        ({"sources": {"bins": 2}, "n_gal": [3.0, 4.0, 5.0]}, "as many values of n_gal as bins", "3, 4, 5"),
        ({"sources": {"bins": 2}, "sigma_e": [0.3]}, "as many values of sigma_e as bins", "0.3"),
        ({"decorrelation": 0.01}, "no correlation to lower", "0.01"),
        ({"omega_m": (0.07, 0.3)}, "emulator covers", "Omega_m=0.07"),
        ({**GAUSSIAN, "shift": 0.03}, "no lower bound", "shift = 0.03"),
        (
            {**GAUSSIAN, "decorrelation": 0.01, "sources": {"bins": 2}},
            "no lower bound",
            "decorrelation = 0.01",
        ),
        ({**CONVERGENCE, "wiener": True}, "no map is made back", "wiener = True"),
        ({**CONVERGENCE, "quadratics": 3}, "no map is made back", "quadratics = 3"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], message: str, got: str) -> None:
    with pytest.raises(OptionError, match=message) as caught:
        made(**options)
    assert got in caught.value.got


def test_too_small_pixels_are_refused() -> None:
    with pytest.raises(OptionError, match="pixels") as caught:
        made(size=256, extent=2.0)
    assert caught.value.got.startswith("0.469 arcmin")


def test_negative_mode_is_refused_with_its_cosmology(monkeypatch: pytest.MonkeyPatch) -> None:
    # Power in a narrow ring of modes has a correlation function that falls below -lambda^2.
    ring = torch.from_numpy(1e-6 * np.exp(-(((ELL - 300.0) / 100.0) ** 2)) + 1e-14)

    def rings(theta: Tensor) -> tuple[Tensor, Tensor]:
        shape = theta.shape[:-1]
        return ring.expand(*shape, 1, -1), torch.full((*shape, 1), 0.01, dtype=torch.float64)

    monkeypatch.setattr(choice_module, "fastest", lambda direct: rings)
    with pytest.raises(SimulationError, match="negative power") as caught:
        made()
    assert "Omega_m=0.1" in caught.value.where


def test_gaussian_bins_that_cannot_be_told_apart_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def twice(theta: Tensor) -> tuple[Tensor, Tensor]:
        shape = theta.shape[:-1]
        power = torch.from_numpy(1e-9 * (ELL / 100) ** -1.0)
        return power.expand(*shape, 3, -1), torch.zeros(*shape, 0, dtype=torch.float64)

    monkeypatch.setattr(choice_module, "fastest", lambda direct: twice)
    with pytest.raises(SimulationError, match="No Gaussian field") as caught:
        made(**TWO_BINS, **GAUSSIAN)
    assert "overlap less" in str(caught.value.fix)


def test_shift_from_a_table(tmp_path: Path) -> None:
    path = tmp_path / "shift.csv"
    grid = [(m, s) for m in (0.1, 0.3, 0.6) for s in (0.3, 0.8, 1.4)]
    lines = ["Omega_m, sigma_8, lambda", *(f"{m}, {s}, {0.1 * m + 0.01 * s}" for m, s in grid)]
    path.write_text("\n".join(lines), encoding="utf-8")
    simulator = made(shift={"table": str(path)})
    theta, _ = draws(simulator, 20)
    omega_m, s8, _ = theta["theta"].T
    expected = -(0.1 * omega_m + 0.01 * s8 * torch.sqrt(0.3 / omega_m))
    torch.testing.assert_close(simulator.floor(theta)["kappa"][:, 0], expected, rtol=1e-3, atol=0)
    path.write_text(lines[0], encoding="utf-8")
    with pytest.raises(OptionError, match="shift cannot be read"):
        made(shift={"table": str(path)})


def test_the_published_case_that_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).parents[2] / "docs" / "lognormal.md"
    (tmp_path / "case.yaml").write_text(page.read_text().split("```yaml\n")[1].split("```")[0])
    grid = [f"{m}, {s}, 0.02" for m in (0.2, 0.4) for s in (0.6, 1.0)]
    (tmp_path / "lognormal_shift.csv").write_text("\n".join(["Omega_m, sigma_8, lambda", *grid]))
    monkeypatch.chdir(tmp_path)
    simulator = LogNormal(chosen(file=Path("case.yaml")))
    assert list(simulator.prior.laws) == ["omega_c", "sigma_8"]
    assert simulator.spec["kappa_obs"].shape == (1, 128, 128)
    galaxies = 30.0 * (300.0 / 128) ** 2
    assert float(simulator.survey.noise[0, 0, 0]) == pytest.approx(0.2 / math.sqrt(galaxies))


@pytest.mark.parametrize("prior", ["s8", "wcdm"])
@pytest.mark.parametrize("size", [32, 128])
def test_no_negative_mode_far_beyond_the_prior_s_bulk(prior: str, size: int) -> None:
    simulator = made(prior=prior, size=size, extent=5.0, sources={"bins": 3})
    random = normals(draw_seeds(9, "scan", 0, 24), (len(simulator.prior.laws),)).double()
    theta = simulator.prior.from_white(4.5 * random / random.norm(dim=1, keepdim=True))
    gaussian = simulator._engine(torch.float64, torch.device("cpu")).gaussian(theta)
    assert float(gaussian.lowest.min()) > 0


def test_parameters_name_every_nuisance() -> None:
    simulator = made(**NUISANCES)
    names = list(simulator.prior.laws)
    assert names[6:] == ["A_IA", "eta_IA", "log_T_AGN", "dz_1", "dz_2", "m_1"]
    assert isinstance(simulator.parameters, Parameters)
    theta = torch.arange(12, dtype=torch.float64)
    assert simulator.parameters.cosmology(theta).tolist() == [0, 1, 2, 3, 4, 5]
    torch.testing.assert_close(
        simulator.parameters.shear_bias(theta), torch.tensor([11.0, 0.01], dtype=torch.float64)
    )
    assert simulator.prior.variable.latex[9] == r"\Delta z_{1}"


def test_observation_that_does_not_fit_is_refused() -> None:
    simulator = small()
    with pytest.raises(ObservationError, match="does not fit"):
        simulator.log_density({"shear": torch.zeros(1, 2, 16, 16)})
    with pytest.raises(ObservationError, match="does not fit"):
        simulator.log_density({"shear": torch.full((1, 2, 8, 8), math.nan)})


@pytest.mark.parametrize(
    ("preset", "bins", "size", "free"),
    [("quick", 1, 32, 3), ("paper", 5, 128, 6), ("lsst-y1", 5, 64, 14), ("kids-like", 5, 64, 14)],
)
def test_presets_simulate(preset: str, bins: int, size: int, free: int) -> None:
    simulator = LogNormal(chosen(preset))
    theta, seeds = draws(simulator, 2)
    outputs = simulator.simulate(theta, seeds=seeds)
    assert theta["theta"].shape == (2, free)
    assert outputs["kappa"].shape == (2, bins, size, size)
    assert bool(torch.isfinite(outputs["shear"]).all())
    for name, summary in simulator.summaries({"shear": outputs["shear"]}).items():
        assert summary.shape == ((2, 12) if name == "quadratics" else outputs["kappa"].shape)


def test_decorrelation_lowers_the_correlation_of_two_bins_alone() -> None:
    plain, less = made(sources={"bins": 2}), made(sources={"bins": 2}, decorrelation=0.1)
    theta, seeds = draws(plain, 200)
    one, other = (s.simulate(theta, seeds=seeds)["kappa"].double() for s in (plain, less))
    variances = [maps.var((0, 2, 3)) for maps in (one, other)]
    torch.testing.assert_close(variances[0], variances[1], rtol=0.03, atol=0)
    products = [float((maps[:, 0] * maps[:, 1]).mean()) for maps in (one, other)]
    assert 0.85 < products[1] / products[0] < 0.95


@pytest.mark.parametrize("options", [{}, {"size": 64, "prior": "wcdm", "sources": {"bins": 5}, "a_ia": 0.5}])
def test_draw_is_the_same_on_any_number_of_threads(options: dict[str, Any]) -> None:
    code = (
        "import sys, json, hashlib, torch; torch.set_num_threads(int(sys.argv[1]));"
        "from sbikit_lognormal.simulator import LogNormal, LogNormalOptions;"
        "from sbikit import draw_seeds;"
        "s = LogNormal(LogNormalOptions.model_validate_json(sys.argv[2])); seeds = draw_seeds(0, 'x', 0, 30);"
        "made = s.simulate(s.prior.sample(seeds), seeds=seeds);"
        "assert torch.get_num_threads() == int(sys.argv[1]);"
        "print(hashlib.sha1(b''.join(made[k].numpy().tobytes() for k in ('kappa', 'shear'))).hexdigest())"
    )
    found = [
        subprocess.run(
            [sys.executable, "-c", code, threads, json.dumps(options)],
            env={**os.environ, "OMP_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for threads in ("1", "2", "3")
    ]
    assert found[0] == found[1] == found[2]
    assert len(found[0].strip()) == 40


def test_kids_like_bins_have_nearly_the_published_mean_redshifts() -> None:
    published = [0.257, 0.403, 0.564, 0.792, 0.984]  # as the preset quotes them
    assert make_sources(chosen("kids-like").sources).mean == pytest.approx(published, abs=0.03)


@pytest.mark.parametrize(
    ("options", "kappa", "shear", "summary"),
    [
        ({}, (True, True), (True, True), (True, True)),
        ({"padding": 2}, (True, False), (True, False), (False, False)),
        ({"mask": {"density": 10.0}}, (True, True), (False, True), (False, True)),
        ({"depth": {"scatter": 0.2}}, (True, True), (False, True), (False, True)),
    ],
)
def test_it_declares_what_its_survey_leaves_true(
    options: dict[str, Any], kappa: tuple[bool, bool], shear: tuple[bool, bool], summary: tuple[bool, bool]
) -> None:
    simulator = made(**options)
    fields = (*simulator.outputs, *simulator.summarised)
    assert [(f.stationary, f.periodic) for f in fields if isinstance(f, Field)] == [kappa, shear, summary]
