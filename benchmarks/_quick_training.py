"""Training steps of the quick preset, for benchmarks of their cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from _untrained import untrained

import sbikit
from sbikit.learning import Average, Plan, Trainer
from sbikit_transformer.constants import fit_constants
from sbikit_transformer.denoiser import Denoiser
from sbikit_transformer.loss import Copies, DenoisingLoss, Endless
from sbikit_transformer.options import TransformerOptions
from sbikit_transformer.teaching import fit_law, teach

GUIDE = 1024  # simulations that fit the guide, and as many the law; a step's cost does not depend on them
COPIES = Copies(8)
OPTIONS = TransformerOptions()


class Clock(sbikit.QuietMonitor):
    """Calls `tick` after every step."""

    def __init__(self, tick: Callable[[], object]) -> None:
        self._tick = tick

    def progress(
        self, title: str, total: int, start: int = 0
    ) -> AbstractContextManager[Callable[[int], None]]:
        def advance(done: int) -> None:
            self._tick()

        return nullcontext(advance)


def quick_denoiser(simulations: sbikit.Simulations) -> Denoiser:
    """The quick preset's denoiser with its constants, guide and law fitted."""
    denoiser = untrained(simulations.simulator, OPTIONS)
    fit_constants(denoiser, [simulations.training(0, GUIDE)])
    fit_law(denoiser, teach(denoiser, simulations.training(GUIDE, GUIDE)), sbikit.QuietMonitor())
    return denoiser


def train_steps(
    denoiser: Denoiser,
    simulations: sbikit.Simulations,
    optimisers: Mapping[str, torch.optim.Optimizer],
    steps: int,
    tick: Callable[[], object],
    *,
    folder: Path | None = None,
) -> None:
    """So many steps at the full rate, on all threads; `tick` is called after each. A folder keeps the last
    one's checkpoint.
    """
    draws = Endless(simulations, first=2 * GUIDE, batch=OPTIONS.batch)
    loss = DenoisingLoss(denoiser, draws, copies=COPIES, seed=0, device=torch.device("cpu"))
    plan = Plan(
        steps=steps,
        round=steps,
        clip=1.0,
        rate=lambda step, steps: 1.0,
        simulations=draws.used,
        keep_seconds=0.0,
    )
    network = denoiser.network
    trainer = Trainer(network, optimisers, loss, Average(network, OPTIONS.ema), plan, whole=denoiser)
    trainer.run(sbikit.Workspace(folder=folder), Clock(tick), "benchmark")
