"""Training in steps, resumable after any look at the validation loss.

The loss of a flow is the mean of -log q(theta | x) over joint draws, whose minimum is the posterior
(Papamakarios and Murray 2016, arXiv:1605.06376; Greenberg et al. 2019, arXiv:1905.07488); that of a vector
field its squared error. The loop is sbikit's because sbi's `train` cannot go on after an interruption and
writes its logs to disk; the order of an epoch's draws depends on (seed, epoch) alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from sbikit import Monitor, Values, Workspace, derive_seed, generator
from sbikit.learning import Best, FixedSet, Plan, Shuffled, Trainer, cosine
from sbikit_npe.embedding import ROWS
from sbikit_npe.options import NPEOptions
from sbikit_npe.vector_field import VectorField

# Of sbi's `train`: a smaller one slows the start, a larger one lets a rare draw undo many steps.
_CLIP = 5.0
_WARM_UP = 50  # steps: AdamW's averages have settled by then
# How often the learning rate falls before training ends: three times are a factor of 37.
_FALLS = 3
COORDINATES = "coordinates"
# Pairs at once: more need more memory. No result depends on it.
_VALIDATION_BATCH = 1024
_TIMES = 8  # of each pair that judges a vector field


class Loss(ABC):
    """The loss of a batch a step, of which the mean over some pairs can be had.

    Args:
        pairs: `COORDINATES` (B, D) and `ROWS` (B, P) of each step, and those that judge.
        device: where the network is.
    """

    def __init__(self, pairs: Held | FixedSet, device: torch.device) -> None:
        self._pairs, self._device = pairs, device

    def rows(self, step: int) -> int:
        """Pairs of a step."""
        return self._pairs.rows(step)

    def __call__(self, step: int) -> Tensor:
        """The mean over the batch of a step."""
        return self.of(step, 0, self.rows(step))

    @abstractmethod
    def of(self, step: int, first: int, count: int) -> Tensor:
        """The mean over pairs `first` to `first + count - 1` of that batch."""

    @abstractmethod
    def validate(self) -> float:
        """The mean over the pairs that judge."""


class Likelihood(Loss):
    """-log q(theta | x) of a flow.

    Args:
        flow: sbi's density estimator, on `device`.
        pairs, device: see `Loss`.
    """

    def __init__(self, flow: Any, pairs: Held | FixedSet, device: torch.device) -> None:
        super().__init__(pairs, device)
        self._flow = flow

    def of(self, step: int, first: int, count: int) -> Tensor:
        """See `Loss.of`."""
        return self._of(self._pairs.batch(step, first, count)).mean()

    @torch.no_grad()
    def validate(self) -> float:
        """See `Loss.validate`."""
        self._flow.eval()
        total, count = 0.0, 0
        for pairs in self._pairs.judging():
            total += float(self._of(pairs).sum())
            count += len(pairs[ROWS])
        return total / count

    def _of(self, pairs: Values) -> Tensor:
        loss: Tensor = self._flow.loss(pairs[COORDINATES].to(self._device), pairs[ROWS].to(self._device))
        return loss


class Matching(Loss):
    """The squared error of a vector field; its noise and times depend on (seed, step) alone.

    Args:
        field: the vector field, on `device`.
        pairs, device: see `Loss`.
        seed: fixes noise and times.
    """

    def __init__(self, field: VectorField, pairs: Held | FixedSet, device: torch.device, seed: int) -> None:
        super().__init__(pairs, device)
        self._field, self._seed = field, seed

    def of(self, step: int, first: int, count: int) -> Tensor:
        """See `Loss.of`."""
        pairs = self._pairs.batch(step, first, count)
        size = pairs[COORDINATES].shape[1]
        source = generator(derive_seed(self._seed, "noise", step))
        drawn = torch.randn(self.rows(step), size, generator=source)[first : first + count]
        times = torch.rand(self.rows(step), generator=source)[first : first + count]
        return self._of(pairs, drawn, times).mean()

    @torch.no_grad()
    def validate(self) -> float:
        """See `Loss.validate`: each at several times, the same in each look."""
        self._field.eval()
        total, count = 0.0, 0
        for number, pairs in enumerate(self._pairs.judging()):
            rows, size = pairs[COORDINATES].shape
            source = generator(derive_seed(self._seed, "judging noise", number))
            for k in range(_TIMES):
                noise = torch.randn(rows, size, generator=source)
                times = (k + torch.rand(rows, generator=source)) / _TIMES
                total += float(self._of(pairs, noise, times).sum())
                count += rows
        return total / count

    def _of(self, pairs: Values, noise: Tensor, times: Tensor) -> Tensor:
        given = (pairs[COORDINATES], pairs[ROWS], noise, times)
        return self._field.loss(*(one.to(self._device) for one in given))


class Held:
    """Pairs in memory, `COORDINATES` (N, D) and `ROWS` (N, P); the last ones judge, the others train.

    Args:
        pairs: all of them.
        judges: how many judge.
        batch: pairs a step.
        seed: fixes their order.
    """

    def __init__(self, pairs: Values, *, judges: int, batch: int, seed: int) -> None:
        kept = len(pairs[ROWS]) - judges
        self.training, self.judges = kept, judges
        training = {name: value[:kept] for name, value in pairs.items()}
        self._judging = {name: value[kept:] for name, value in pairs.items()}
        self._shuffled = Shuffled.held(training, batch=batch, seed=seed)

    def rows(self, step: int) -> int:
        """How many pairs a step has; fewer at the end of an epoch."""
        return self._shuffled.rows(step)

    def batch(self, step: int, first: int, count: int) -> Values:
        """Pairs `first` to `first + count - 1` of a step."""
        return self._shuffled.batch(step).part(first, count).values

    def judging(self) -> Iterator[Values]:
        """The pairs that judge, in chunks."""
        for first in range(0, self.judges, _VALIDATION_BATCH):
            yield {name: v[first : first + _VALIDATION_BATCH] for name, v in self._judging.items()}


def train(
    flow: Any,
    pairs: Held | FixedSet,
    options: NPEOptions,
    *,
    identity: str,
    seed: int,
    workspace: Workspace,
    monitor: Monitor,
) -> None:
    """Train to the end; the flow is left with the weights of the best validation loss.

    Args:
        flow: sbi's density estimator, or a vector field, on `workspace.device`.
        pairs: those that train and those that judge.
        options: how long and how fast.
        identity: what the checkpoint must have been made by.
        seed: fixes the noise of a vector field's training.
        workspace: where the checkpoint of an unfinished training lies.
        monitor: reports.
    """
    loss: Loss
    if isinstance(flow, VectorField):
        loss = Matching(flow, pairs, workspace.device, seed)
    else:
        loss = Likelihood(flow, pairs, workspace.device)
    optimiser = torch.optim.AdamW(
        flow.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay
    )
    best = Best(flow, loss.validate, options.patience, _FALLS)
    plan = Plan(
        steps=options.steps,
        round=options.validate_every,
        clip=_CLIP,
        rate=lambda step, steps: best.factor * cosine(step, steps, _WARM_UP),
        simulations=lambda step: pairs.training + pairs.judges,
        keep_seconds=0.0,
        remedy="lower the option learning_rate",
    )
    Trainer(flow, {"adamw": optimiser}, loss, best, plan).run(workspace, monitor, identity)
