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
from sbikit_transformer.estimator import DiffusionTransformer
from sbikit_transformer.held_out_error import field_errors, scalar_errors
from sbikit_transformer.options import TransformerOptions
from sbikit_transformer.sampler import TransformerSampler

EXACT_DRAWS = 1000
# Simulations that judge the denoiser, of the training stream, beyond all that train.
FIRST, JUDGES = 50_000_000, 512

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


def by_level(sampler: TransformerSampler, simulations: Simulations, sigma: float) -> tuple[Found, Found]:
    """Squared error of each scalar at a noise level, and the variance sigma^2 dD/du, with standard errors."""
    values = simulations.training(FIRST, JUDGES)
    squares, implied = scalar_errors(sampler.denoiser, values, sigma, generator(5))
    return _means(squares), _means(implied)


def field_by_level(
    sampler: TransformerSampler, simulations: Simulations, sigma: float
) -> tuple[Found, Found]:
    """Squared error of a pixel at a noise level, given true scalars, and by how much the network changes that
    of the guide, with standard errors.
    """
    values = simulations.training(FIRST, JUDGES)
    found, guessed = (part[:, None] for part in field_errors(sampler.denoiser, values, sigma, generator(6)))
    return _means(found), _means(found / guessed.mean() - guessed / guessed.mean())


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
