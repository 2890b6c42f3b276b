"""What the toolkit adds to a training step: `python benchmarks/overhead.py`.

Steps of the quick preset on one thread, block after block in turn: those of `Trainer` on the training stream,
with a log and a folder for its checkpoint, and those of a loop that a person would write, on the same
network, loss and optimisers: parameters from the prior, `simulate` called at once, gradient, clipping, steps,
average of the weights. Errors are standard errors over pairs of blocks.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from _product import product_seconds
from _quick_training import COPIES, OPTIONS, quick_denoiser, train_steps
from _record import record
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import sbikit
from sbikit import Values, derive_seed, draw_seeds
from sbikit_transformer.denoiser import Denoiser
from sbikit_transformer.loss import DenoisingLoss
from sbikit_transformer.training import make_optimisers

BLOCKS, STEPS, SKIPPED = 12, 30, 5  # steps of a block, and how many of them are not counted
GOAL = 1.05


class Bare:
    """Simulations of each step without the toolkit: `draws` of a loss."""

    def __init__(self, simulator: sbikit.Simulator) -> None:
        self._simulator = simulator

    def rows(self, step: int) -> int:
        """Simulations of a step."""
        del step
        return OPTIONS.batch

    def batch(self, step: int, first: int, count: int) -> Values:
        """All of them."""
        del first
        seeds = draw_seeds(derive_seed(0, "bare"), "step", step * count, count)
        theta = self._simulator.prior.sample(seeds)
        return {**theta, **self._simulator.simulate(theta, seeds=seeds)}  # type: ignore[dict-item]


def by_toolkit(denoiser: Denoiser, simulations: sbikit.Simulations, folder: Path) -> float:
    """CPU seconds of a step of the trainer, the mean over a block."""
    ticks = [time.process_time()]

    def tick() -> None:
        ticks.append(time.process_time())

    optimisers = make_optimisers(denoiser.network, OPTIONS.rate)
    train_steps(denoiser, simulations, optimisers, STEPS, tick, folder=folder)
    return (ticks[STEPS] - ticks[SKIPPED]) / (STEPS - SKIPPED)


def by_hand(denoiser: Denoiser, simulator: sbikit.Simulator) -> float:
    """CPU seconds of a step of a loop without it."""
    network, draws = denoiser.network, Bare(simulator)
    loss = DenoisingLoss(denoiser, draws, copies=COPIES, seed=0, device=torch.device("cpu"))  # type: ignore[arg-type]
    optimisers = make_optimisers(network, OPTIONS.rate).values()
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(OPTIONS.ema))
    network.train()
    ticks = [time.process_time()]
    for step in range(STEPS):
        found = loss(step)
        found.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        average.update_parameters(network)
        ticks.append(time.process_time())
    return (ticks[STEPS] - ticks[SKIPPED]) / (STEPS - SKIPPED)


def main() -> None:
    """Train in turn, then tell."""
    torch.set_num_threads(1)
    simulator = sbikit.load("simulator", "lognormal")
    simulations = sbikit.Simulations(simulator, 0)
    denoiser = quick_denoiser(simulations)
    products, toolkit, bare = [], [], []
    for _ in range(BLOCKS):
        products.append(product_seconds())
        with tempfile.TemporaryDirectory() as folder:
            toolkit.append(by_toolkit(denoiser, simulations, Path(folder)))
        bare.append(by_hand(denoiser, simulator))
    for name, values in (
        ("product of two 1024 x 1024 float32 matrices", products),
        ("training step of the trainer", toolkit),
        ("training step by hand", bare),
    ):
        value, error = sbikit.mean_and_error(1e3 * np.array(values))
        record(f"CPU ms of a {name}", value, error)
    value, error = sbikit.mean_and_error(np.array(toolkit) / np.array(bare))
    record(
        "CPU time of a training step of the trainer",
        value,
        error,
        ratio_to="that by hand",
        goal=f"at most {GOAL}",
        ok=value <= GOAL,
    )


if __name__ == "__main__":
    main()
