"""What warm-up learns: step sizes against acceptance curves, scales against numpy's covariances."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from sbikit_exact.hmc.scales import RunningMoments, Scales
from sbikit_exact.hmc.step_size import StepSize

CPU = torch.device("cpu")


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- step size --------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [0.6, 0.8, 0.95])
def test_step_sizes_reach_the_wanted_acceptance(target: float) -> None:
    """Acceptance exp(-e / c): the step size is -c log(target), for c from 0.01 to 10 at once."""
    c = torch.tensor([0.01, 0.1, 1.0, 10.0], dtype=torch.float64)
    step = StepSize(4, target, 100.0, CPU)
    for _ in range(2):
        step.restart()
        for _ in range(200):
            step.update(torch.exp(-step.current / c))
    torch.testing.assert_close(step.mean, -c * np.log(target), rtol=0.05, atol=0.0)


def test_noise_in_the_acceptance_averages_out() -> None:
    source = torch.Generator().manual_seed(1)
    step = StepSize(200, 0.8, 100.0, CPU)
    for _ in range(2000):
        wanted = torch.exp(-step.current)
        step.update((torch.rand(200, generator=source, dtype=torch.float64) < wanted).double())
    assert abs(torch.exp(-step.mean).mean() - 0.8) < 0.02
    # The current step size goes on fluctuating; the one that is kept does so less.
    assert step.mean.log().std() < 0.5 * step.current.log().std()


def test_a_restart_keeps_the_step_size_and_forgets_the_rest() -> None:
    step = StepSize(2, 0.8, 100.0, CPU)
    for _ in range(50):
        step.update(torch.tensor([0.2, 0.85], dtype=torch.float64))
    found = step.mean
    step.restart()
    assert torch.equal(step.mean, found)
    assert torch.equal(step.current, found)
    step.update(torch.full((2,), 0.8, dtype=torch.float64))
    torch.testing.assert_close(step.current, 1.5 * found)  # bolder, and no error left over


def test_steps_that_could_be_longer_do_not_run_away() -> None:
    """All is accepted for long; once it is not, the step size comes down at once."""
    step = StepSize(1, 0.8, 3.0, CPU)
    for _ in range(2000):
        step.update(torch.ones(1, dtype=torch.float64))
    assert float(step.current) == pytest.approx(3.0)
    assert float(step.mean) == pytest.approx(3.0, rel=0.01)
    step.restart()
    for _ in range(40):
        step.update(torch.exp(-step.current / 0.1))
    assert float(step.mean) == pytest.approx(-0.1 * np.log(0.8), rel=0.5)


@pytest.mark.parametrize("target", [0.65, 0.9])
@pytest.mark.parametrize("first", [1e-3, 10.0])
def test_a_search_finds_the_step_of_normal_energy_errors(target: float, first: float) -> None:
    """Of errors N(s^2 / 2, s^2) with s = (e / c)^2, by brute force, within a dozen transitions."""
    source, c = torch.Generator().manual_seed(2), torch.tensor([first, 3.0 * first], dtype=torch.float64)
    step = StepSize(2, target, 100.0, CPU)
    for _ in range(12):
        s = (step.current / c).square()
        errors = 0.5 * s.square() + s * torch.randn(400, 2, generator=source, dtype=torch.float64)
        step.search(errors.abs().mean(0))
    s = (step.mean / c).square()
    errors = 0.5 * s.square() + s * torch.randn(10**5, 2, generator=source, dtype=torch.float64)
    acceptance = (-errors).clamp(max=0.0).exp().mean(0)
    torch.testing.assert_close(acceptance, torch.full_like(acceptance, target), rtol=0.0, atol=0.02)


def test_a_search_survives_energies_that_are_not_finite() -> None:
    step = StepSize(3, 0.9, 1.0, CPU)
    before = step.current
    step.search(torch.tensor([math.nan, math.inf, 0.0], dtype=torch.float64))
    torch.testing.assert_close(step.current / before, torch.tensor([-1.5, -1.5, 0.7]).double().exp())


def test_what_follows_a_search_begins_with_its_step_size() -> None:
    step = StepSize(1, 0.8, 100.0, CPU)
    for _ in range(5):
        step.search(torch.full((1,), 1e3, dtype=torch.float64))
    found = step.current
    step.update(torch.full((1,), 0.8, dtype=torch.float64))
    torch.testing.assert_close(step.current, 1.5 * found)


def test_observations_are_selected_by_row() -> None:
    step = StepSize(3, 0.8, 100.0, CPU)
    for _ in range(20):
        step.update(torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64))
    found = step.mean
    step.select(torch.tensor([2, 0]))
    assert torch.equal(step.mean, found[[2, 0]])


# --- scales -----------------------------------------------------------------------------------


def some_scales(count: int, size: int, parameters: int) -> Scales:
    root = torch.tril(randn(count, parameters, parameters, seed=1))
    return Scales(randn(count, size, seed=3), root, randn(count, size - parameters, seed=2).abs() + 0.1)


def dense(scales: Scales, b: int) -> Tensor:
    return torch.block_diag(scales.root[b], torch.diag(scales.scale[b]))


@pytest.mark.parametrize("parameters", [0, 1, 3, 5])
def test_scales_are_a_matrix_and_its_transpose(parameters: int) -> None:
    scales, x = some_scales(2, 5, parameters), randn(4, 2, 5)
    for b in range(2):
        M = dense(scales, b)
        torch.testing.assert_close(scales.to_coordinates(x)[:, b], scales.centre[b] + x[:, b] @ M.T)
        torch.testing.assert_close(scales.from_coordinates(scales.to_coordinates(x)), x)
        torch.testing.assert_close(scales.to_scaled(x)[:, b], x[:, b] @ M)
        torch.testing.assert_close(dense(scales.select(torch.tensor([b])), 0), M)


def test_unit_scales_change_nothing() -> None:
    x = randn(4, 2, 5)
    assert torch.equal(Scales.unit(2, 5, 3, CPU).to_coordinates(x), x)


# --- moments ----------------------------------------------------------------------------------


def test_moments_are_numpys_covariance() -> None:
    """Observations whose scales differ by 100, the parameters' coordinates strongly correlated."""
    M = torch.tensor([[1.0, 0.0, 0.0], [3.0, 0.2, 0.0], [0.0, 0.0, 2.0]], dtype=torch.float64)
    draws = (randn(500, 4, 2, 3) @ M.T) * torch.tensor([[1.0], [0.01]], dtype=torch.float64) + 5.0
    moments = RunningMoments(2, 3, 2, CPU)
    for z in draws:
        moments.add(z)
    scales = moments.scales()
    for b in range(2):
        covariance = np.cov(draws[:, :, b].reshape(-1, 3).T.numpy(), bias=True)
        expected = covariance + 1e-3 / 101 * np.eye(3)
        expected[2, :2] = expected[:2, 2] = 0.0
        found = dense(scales, b)
        centre = draws[:, :, b].mean((0, 1)).numpy()
        np.testing.assert_allclose(scales.centre[b, :2], centre[:2], rtol=1e-12)
        np.testing.assert_allclose(scales.centre[b, 2], centre[2], rtol=1e-3)
        product = (found @ found.T).numpy()
        np.testing.assert_allclose(product[:2, :2], expected[:2, :2], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(product[2], expected[2], rtol=0.01, atol=1e-12)


@pytest.mark.parametrize("spread", [0.0, 0.5])
def test_centres_and_scales_are_shrunk_as_far_as_they_are_noise(spread: float) -> None:
    """400 coordinates of one centre and scale, or of scattered ones, from 40 draws each."""
    centre, log_scale = spread * randn(1, 400, seed=5), math.log(3.0) + spread * randn(1, 400, seed=6)
    moments = RunningMoments(1, 400, 0, CPU)
    for z in randn(10, 4, 1, 400, seed=7) * log_scale.exp() + centre * 3.0:
        moments.add(z)
    scales = moments.scales()
    noise = 3.0 / math.sqrt(40.0)
    off = (scales.centre - 3.0 * centre).square().mean().sqrt()
    off_scale = (scales.scale.log() - log_scale).square().mean().sqrt()
    plain = 1.0 / math.sqrt(2.0 * 40.0)
    if spread:
        assert off < 1.3 * noise  # no worse than unshrunk, whose scales differ, too
        assert off_scale < 1.2 * plain  # a variance over the 20 draws of a half is 5 % too small
    else:
        assert off < 0.3 * noise
        assert off_scale < 0.5 * plain


def test_fewer_draws_than_parameters_still_give_scales() -> None:
    moments = RunningMoments(1, 12, 10, CPU)
    moments.add(randn(2, 1, 12))
    scales = moments.scales()
    assert torch.isfinite(scales.root).all()
    assert (scales.root.diagonal(dim1=-2, dim2=-1) > 0.02).all()
    assert (scales.scale > 0).all()


def test_chains_that_never_moved_give_scales_too() -> None:
    moments = RunningMoments(1, 3, 2, CPU)
    for _ in range(10):
        moments.add(torch.full((4, 1, 3), 0.3, dtype=torch.float64))
    scales = moments.scales()
    assert torch.isfinite(scales.root).all()
    assert (scales.scale > 0).all()
