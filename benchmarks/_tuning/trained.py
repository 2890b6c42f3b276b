"""A trained transformer, its denoiser level by level, and the exact posterior of the tuning set."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor

from sbikit import QuietMonitor, Simulations, Workspace, draw_seeds, generator, load
from sbikit_transformer.estimator import DiffusionTransformer, TransformerSampler
from sbikit_transformer.options import TransformerOptions

EXACT_DRAWS = 1000
# Simulations that judge the denoiser, of the training stream, beyond all that train.
FIRST, JUDGES = 50_000_000, 512
STEP = 0.02  # of sigma: half of that by which a scalar is moved to find the slope

Found = list[tuple[float, float]]


def trained(
    folder: Path, simulations: Simulations, options: Mapping[str, str]
) -> tuple[TransformerSampler, float | None]:
    """The sampler, and the CPU seconds of its training; None where it was trained before."""
    read = {name: yaml.safe_load(value) for name, value in options.items()}
    estimator = DiffusionTransformer(TransformerOptions(**read))
    if (folder / "weights.safetensors").exists():
        return estimator.load(folder, simulations.simulator, device=torch.device("cpu")), None
    folder.mkdir(parents=True, exist_ok=True)
    began = time.process_time()
    sampler = estimator.fit(
        simulations, seed=simulations.seed, workspace=Workspace(folder), monitor=QuietMonitor()
    )
    seconds = time.process_time() - began
    estimator.save(sampler, folder)
    return sampler, seconds


@torch.no_grad()
def by_level(sampler: TransformerSampler, simulations: Simulations, sigma: float) -> tuple[Found, Found]:
    """Squared error of each scalar at a noise level, and the variance sigma^2 dD/du, with standard errors."""
    denoiser = sampler.denoiser
    values = simulations.training(FIRST, JUDGES)
    told, (_, u) = denoiser.condition(values), denoiser.encode(values)
    noisy_u = u + sigma * torch.randn(u.shape, generator=generator(5))
    log_sigma = torch.full((len(u),), sigma).log()

    def scalars(at: Tensor) -> Tensor:
        return denoiser.denoise_scalars(at, log_sigma, told)[0]

    squares = (scalars(noisy_u) - u).square()
    moved = STEP * sigma * torch.eye(u.shape[1])
    slopes = torch.stack(
        [(scalars(noisy_u + by) - scalars(noisy_u - by))[:, i] for i, by in enumerate(moved)], 1
    )
    return _means(squares), _means(sigma**2 * slopes / (2.0 * STEP * sigma))


@torch.no_grad()
def field_by_level(
    sampler: TransformerSampler, simulations: Simulations, sigma: float
) -> tuple[Found, Found]:
    """Squared error of a pixel at a noise level, given true scalars, and by how much the network changes that
    of the guide, with standard errors.
    """
    denoiser = sampler.denoiser
    assert denoiser.guide is not None
    values = simulations.training(FIRST, JUDGES)
    told, (field, u) = denoiser.condition(values), denoiser.encode(values)
    noisy = field + sigma * torch.randn(field.shape, generator=generator(6))
    log_sigma = torch.full((len(u),), sigma).log()
    found = denoiser.denoise_field(noisy, u, log_sigma, told)[0]
    guess = denoiser.guide(noisy, u, told.modes, told.vectors, log_sigma.exp()).field
    squares, guessed = ((part - field).square().flatten(1).mean(1, keepdim=True) for part in (found, guess))
    return _means(squares), _means(squares / guessed.mean() - guessed / guessed.mean())


def reference(folder: Path, simulations: Simulations, count: int) -> dict[str, Tensor]:
    """Draws of hmc for the first observations, (draws, B, *shape), made once."""
    path = folder / f"reference-{count}.safetensors"
    if not path.exists():
        observation = {"shear": simulations.held_out(0, count)["shear"]}
        posterior = load("sampler", "hmc").posterior(simulations.simulator, monitor=QuietMonitor())
        seeds = draw_seeds(simulations.seed, "reference", 0, count)
        values = posterior.sample(observation, EXACT_DRAWS, seeds=seeds).values
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: value.contiguous() for name, value in values.items()}, path)
    return load_file(path)


def _means(values: Tensor) -> Found:
    mean, error = values.mean(0), values.std(0) / len(values) ** 0.5
    return list(zip(mean.tolist(), error.tolist(), strict=True))
