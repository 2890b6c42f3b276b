"""Maximum-likelihood training of a flow in steps, resumable after any look at the validation loss.

The loss is the mean of -log q(theta | x) over joint draws, whose minimum is the posterior (Papamakarios
and Murray 2016, arXiv:1605.06376; Greenberg et al. 2019, arXiv:1905.07488). The loop is sbikit's because
sbi's `train` cannot go on after an interruption and writes its logs to disk; the order of an epoch's
draws depends on (seed, epoch) alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sbikit import Monitor, Workspace, derive_seed, generator
from sbikit.learning import Best, Plan, Trainer, cosine
from sbikit_npe.options import NPEOptions

# Of sbi's `train`: a smaller one slows the start, a larger one lets a rare draw undo many steps.
_CLIP = 5.0
_WARM_UP = 50  # steps: AdamW's averages have settled by then
# How often the learning rate falls before training ends: three times are a factor of 37.
_FALLS = 3
# Pairs that judge, where a fifth of a set is as many: the loss of fewer is no guide to when to stop. More
# leave fewer to train on.
_LEAST_VALIDATION = 100
# Pairs at once: more need more memory. No result depends on it.
_VALIDATION_BATCH = 1024


@dataclass(frozen=True)
class Pairs:
    """Coordinates (N, D) and rows (N, P) of joint draws, on the CPU."""

    coordinates: Tensor
    rows: Tensor

    def __len__(self) -> int:
        return len(self.coordinates)

    def part(self, index: Tensor | slice) -> Pairs:
        """Some of them."""
        return Pairs(self.coordinates[index], self.rows[index])

    def on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Coordinates and rows on a device."""
        return self.coordinates.to(device), self.rows.to(device)


class Likelihood:
    """-log q(theta | x) of a flow, a batch a step.

    Args:
        flow: sbi's density estimator, on `device`.
        training: the pairs that steps go over, epoch by epoch.
        validation: the pairs that judge it.
        batch: pairs a step.
        seed: fixes the order of the training pairs.
        device: where the flow is.
    """

    def __init__(
        self, flow: Any, training: Pairs, validation: Pairs, *, batch: int, seed: int, device: torch.device
    ) -> None:
        self._flow, self._training, self._validation = flow, training, validation
        self._batch, self._seed, self._device = batch, seed, device
        self.batches = math.ceil(len(training) / batch)
        self._epoch = -1
        self._order: tuple[Tensor, ...] = ()

    def rows(self, step: int) -> int:
        """Pairs of a step."""
        return len(self._pairs_of(step))

    def __call__(self, step: int) -> Tensor:
        """The mean over the batch of a step."""
        return self._of(self._training.part(self._pairs_of(step))).mean()

    def of(self, step: int, first: int, count: int) -> Tensor:
        """The mean over pairs `first` to `first + count - 1` of that batch."""
        return self._of(self._training.part(self._pairs_of(step)[first : first + count])).mean()

    def _pairs_of(self, step: int) -> Tensor:
        """Numbers of the pairs of a step."""
        epoch, batch = divmod(step, self.batches)
        if epoch != self._epoch:
            source = generator(derive_seed(self._seed, "epoch", epoch))
            self._epoch = epoch
            self._order = torch.randperm(len(self._training), generator=source).split(self._batch)
        return self._order[batch]

    @torch.no_grad()
    def validate(self) -> float:
        """The mean over the validation pairs."""
        self._flow.eval()
        total = 0.0
        for first in range(0, len(self._validation), _VALIDATION_BATCH):
            total += float(self._of(self._validation.part(slice(first, first + _VALIDATION_BATCH))).sum())
        return total / len(self._validation)

    def _of(self, pairs: Pairs) -> Tensor:
        loss: Tensor = self._flow.loss(*pairs.on(self._device))
        return loss


def validation_size(pairs: int, fraction: float) -> int:
    """How many of the pairs judge: of a small set more than `fraction`, up to a fifth."""
    return max(1, round(fraction * pairs), min(_LEAST_VALIDATION, pairs // 5))


def train(
    flow: Any,
    pairs: Pairs,
    options: NPEOptions,
    *,
    seed: int,
    identity: str,
    workspace: Workspace,
    monitor: Monitor,
) -> None:
    """Train to the end; the flow is left with the weights of the best validation loss.

    Args:
        flow: sbi's density estimator, on `workspace.device`.
        pairs: joint draws; the last ones judge, the others train.
        options: how long and how fast.
        seed: fixes the order of the draws.
        identity: what the checkpoint must have been made by.
        workspace: where the checkpoint of an unfinished training lies.
        monitor: reports.
    """
    kept = len(pairs) - validation_size(len(pairs), options.validation_fraction)
    training, validation = pairs.part(slice(kept)), pairs.part(slice(kept, None))
    likelihood = Likelihood(
        flow, training, validation, batch=options.batch, seed=seed, device=workspace.device
    )
    optimiser = torch.optim.AdamW(
        flow.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay
    )
    best = Best(flow, likelihood.validate, options.patience, _FALLS)
    plan = Plan(
        steps=options.steps,
        round=options.validate_every,
        clip=_CLIP,
        rate=lambda step: best.factor * cosine(step, options.steps, _WARM_UP),
        simulations=lambda step: len(pairs),
        keep_seconds=0.0,
    )
    Trainer(flow, {"adamw": optimiser}, likelihood, best, plan).run(workspace, monitor, identity)
