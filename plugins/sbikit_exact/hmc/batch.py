"""One batch of observations, from the first start to draws of the latents."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sbikit import Draws, LogDensity, Spec, Values
from sbikit_exact.chains import decode, thin
from sbikit_exact.hmc.ensemble import Ensemble
from sbikit_exact.hmc.record import Record
from sbikit_exact.hmc.threads import StoppedError
from sbikit_exact.options.hmc import HMCOptions


@dataclass(frozen=True)
class Task:
    """What is asked of every batch.

    Args:
        spec: the problem.
        density_of: the log density given observations (B, *shape).
        options: how to run the chains.
        device: where the density computes.
        n: draws wanted of each observation.
        least: transitions a chain that are kept at first.
        advance: told of transitions done.
    """

    spec: Spec
    density_of: Callable[[Values], LogDensity]
    options: HMCOptions
    device: torch.device
    n: int
    least: int
    advance: Callable[[int], None]


class Batch:
    """Some observations.

    Args:
        task: what is asked.
        observation: each (B, *shape).
        seeds: one an observation.
    """

    def __init__(self, task: Task, observation: Values, seeds: Sequence[int]) -> None:
        self._task, self._observation, self._seeds = task, observation, seeds
        self._stopped = threading.Event()
        self._began = 0.0

    def draw(self, stopped: threading.Event) -> Draws:
        """Draw.

        Raises:
            StoppedError: soon after `stopped` is set.
        """
        self._stopped, self._began = stopped, time.monotonic()
        task, going = self._task, list(range(len(self._seeds)))
        chains = Ensemble(self._density, task.options, self._seeds, task.device)
        chains.warm_up(task.advance)
        record = Record(chains.run(task.least, task.advance), self._density(going), task.spec, task.device)
        found: dict[int, Draws] = {}
        while True:
            settled = self._settled(record, going, chains.gradients.tolist())
            found |= settled
            keep = [i for i, b in enumerate(going) if b not in settled]
            if not keep:
                return Draws.joined([found[b] for b in sorted(found)])
            going = [going[i] for i in keep]
            chains.keep(keep)
            record.keep(keep)
            more = min(record.draws, task.options.max_draws - record.draws)
            record.extend(chains.run, more, self._density(going))

    def _density(self, rows: list[int]) -> LogDensity:
        """The density of some observations, which gives up when the batch is stopped."""
        density = self._task.density_of({name: value[rows] for name, value in self._observation.items()})

        def log_prob(z: Tensor) -> Tensor:
            if self._stopped.is_set():
                raise StoppedError
            return density.log_prob(z)

        return replace(density, log_prob=log_prob)

    def _settled(self, record: Record, going: list[int], gradients: list[int]) -> dict[int, Draws]:
        """Draws for those of the observations `going` that are trusted, or have gone far enough."""
        task, settled = self._task, {}
        share = (time.monotonic() - self._began) / len(self._seeds)
        for i, b in enumerate(going):
            trust = record.diagnose(i, gradients[i], share).trust()
            if not trust.trustworthy and record.draws < task.options.max_draws:
                continue
            z = thin(record.z[:, :, i : i + 1], task.n).to(task.device).double()
            settled[b] = Draws(decode(self._density([b]), z, task.spec), (trust,))
        return settled
