"""Maximum-likelihood training of a flow, epoch by epoch, resumable after any of them.

The loss is the mean of -log q(theta | x) over joint draws, whose minimum is the posterior (Papamakarios
and Murray 2016, arXiv:1605.06376; Greenberg et al. 2019, arXiv:1905.07488). The loop is our own because
sbi's `train` cannot go on after an interruption and writes its logs to disk; the order of an epoch's
draws depends on (seed, epoch) alone, so an interrupted fit ends where an uninterrupted one does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sbikit import Monitor
from sbikit.problem.seeds import derive_seed, generator
from sbikit_npe.storage import load_checkpoint, restore, save_checkpoint

_CLIP = 5.0
_VALIDATION_BATCH = 1024


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train.

    Args:
        epochs: most passes over the training draws; the learning rate falls to zero over them.
        patience: stop after so many epochs without a better validation loss.
        batch: draws a step.
        learning_rate: of AdamW, at the start.
        weight_decay: of AdamW.
    """

    epochs: int
    patience: int
    batch: int
    learning_rate: float
    weight_decay: float


@dataclass(frozen=True)
class Draws:
    """Coordinates (N, D) and rows (N, P) of joint draws, on the CPU."""

    coordinates: Tensor
    rows: Tensor

    def __len__(self) -> int:
        return len(self.coordinates)

    def take(self, index: Tensor | slice, device: torch.device) -> tuple[Tensor, Tensor]:
        """Some of the draws, on `device`."""
        return self.coordinates[index].to(device), self.rows[index].to(device)


class Training:
    """One fit.

    Args:
        flow: sbi's density estimator, on `monitor.device`.
        schedule: how long and how fast.
        seed: fixes the order of the draws.
        monitor: reports, and names the folder of the checkpoint.
        identity: what the checkpoint must have been made by.
    """

    def __init__(self, flow: Any, schedule: Schedule, seed: int, monitor: Monitor, identity: str) -> None:
        self.flow = flow
        self.epoch = 0
        self._best_loss = math.inf
        self._best_epoch = 0
        self._best = _copy(flow)
        self._schedule = schedule
        self._seed = seed
        self._monitor = monitor
        self._identity = identity
        self._optimizer = torch.optim.AdamW(
            flow.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay
        )
        self._resume()

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to train."""
        stale = self.epoch - self._best_epoch
        return self.epoch >= self._schedule.epochs or stale >= self._schedule.patience

    def run(self, training: Draws, validation: Draws) -> None:
        """Train to the end; the flow is left with the weights of the best validation loss."""
        with self._monitor.progress("training npe", self._schedule.epochs, self.epoch) as advance:
            while not self.finished:
                loss = self._train_epoch(training)
                validation_loss = self._validate(validation)
                self.epoch += 1
                if validation_loss < self._best_loss:
                    self._best_loss, self._best_epoch, self._best = (
                        validation_loss,
                        self.epoch,
                        _copy(self.flow),
                    )
                self._monitor.log(
                    step=self.epoch,
                    loss=loss,
                    validation_loss=validation_loss,
                    simulations=len(training) + len(validation),
                )
                self._checkpoint()
                advance(1)
        self.flow.load_state_dict(self._best)

    def _train_epoch(self, draws: Draws) -> float:
        self.flow.train()
        source = generator(derive_seed(self._seed, "epoch", self.epoch))
        batches = torch.randperm(len(draws), generator=source).split(self._schedule.batch)
        total = 0.0
        for step, index in enumerate(batches):
            self._set_learning_rate((self.epoch + step / len(batches)) / self._schedule.epochs)
            loss = self.flow.loss(*draws.take(index, self._monitor.device)).mean()
            self._optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.flow.parameters(), _CLIP)
            self._optimizer.step()
            total += float(loss.detach()) * len(index)
        return total / len(draws)

    @torch.no_grad()
    def _validate(self, draws: Draws) -> float:
        self.flow.eval()
        total = 0.0
        for first in range(0, len(draws), _VALIDATION_BATCH):
            part = slice(first, first + _VALIDATION_BATCH)
            total += float(self.flow.loss(*draws.take(part, self._monitor.device)).sum())
        return total / len(draws)

    def _set_learning_rate(self, fraction: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = self._schedule.learning_rate * 0.5 * (1.0 + math.cos(math.pi * fraction))

    # --- the checkpoint ---

    @property
    def _path(self) -> Path | None:
        folder = self._monitor.folder
        return None if folder is None else folder / "npe-training.safetensors"

    def _checkpoint(self) -> None:
        if self._path is None:
            return
        tensors = {f"flow/{name}": value for name, value in self.flow.state_dict().items()}
        tensors |= {f"best/{name}": value for name, value in self._best.items()}
        for index, state in self._optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{index}/{key}": value for key, value in state.items()}
        header = {"epoch": self.epoch, "best_epoch": self._best_epoch, "best_loss": self._best_loss}
        save_checkpoint(self._path, tensors, {"identity": self._identity, **header})

    def _resume(self) -> None:
        if self._path is None or not self._path.exists():
            return
        tensors, header = load_checkpoint(self._path, self._identity)
        restore(self.flow, _under("flow/", tensors), self._path)
        self._best = {
            name: value.to(self._monitor.device) for name, value in _under("best/", tensors).items()
        }
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in _under("optimizer/", tensors).items():
            index, key = name.split("/")
            state.setdefault(int(index), {})[key] = value
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": state, "param_groups": groups})
        self.epoch, self._best_epoch = header["epoch"], header["best_epoch"]
        self._best_loss = header["best_loss"]
        self._monitor.say(f"npe: going on after epoch {self.epoch}")


def _copy(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
