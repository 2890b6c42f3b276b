"""The training loop: steps in rounds, after each of which it is logged and, when due, kept.

Step k's loss depends on (seed, k) alone and all else that steps depend on is in the checkpoint, so a training
that was interrupted and goes on ends where it would have ended, to the bit.

On several devices each process goes through the same steps with a share of every batch (`gradients`); what is
judged after a round is the first one's, which alone writes checkpoints, so that all stay alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sbikit.learning.averages import FinalWeights
from sbikit.learning.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from sbikit.learning.gradients import gradients
from sbikit.roles.monitor import Monitor, Workspace
from sbikit.roles.team import Alone, Team

_FORMAT = "training 1"


@dataclass(frozen=True)
class Plan:
    """How long to train and what happens on the way.

    Args:
        steps: optimiser steps, at most.
        round: steps between two entries of the log.
        clip: largest norm of a step's gradient.
        rate: step -> factor on the optimisers' learning rates.
        simulations: step -> simulations used before it, for the log.
        keep_seconds: least time between two checkpoints.
    """

    steps: int
    round: int
    clip: float
    rate: Callable[[int], float]
    simulations: Callable[[int], int]
    keep_seconds: float


def unfinished(workspace: Workspace) -> Path | None:
    """The checkpoint of an interrupted training, None where there is none."""
    path = _path(workspace)
    return path if path is not None and path.exists() else None


class Trainer:
    """Trains a network by the gradient of a loss.

    Args:
        network: what is trained, on the device where it is to run.
        optimisers: name -> optimiser of some of its weights, at its full learning rate.
        loss: step -> loss, made from the network as it is, the seed and the step alone; `Divisible` where
            several devices, or one that holds less than a batch, are to train.
        final: which weights it ends with.
        plan: how long, how fast.
        whole: a module around the network whose constants the checkpoint must hold too.
    """

    def __init__(
        self,
        network: nn.Module,
        optimisers: Mapping[str, Optimizer],
        loss: Callable[[int], Tensor],
        final: FinalWeights,
        plan: Plan,
        *,
        whole: nn.Module | None = None,
    ) -> None:
        self.network, self.optimisers, self.loss = network, optimisers, loss
        self.final, self.plan = final, plan
        self.whole = network if whole is None else whole
        self.step = 0
        self.seconds = 0.0
        self._team: Team = Alone()
        self._gradients = gradients(network, loss, self._team, None)
        for group in self._groups():
            group["initial_lr"] = group["lr"]

    def run(self, workspace: Workspace, monitor: Monitor, identity: str) -> None:
        """Train to the end, going on from what the workspace holds; the network then has its final weights.

        Args:
            workspace: where the checkpoint is kept, and who trains.
            monitor: is told of every step and every round.
            identity: all that the training depends on, see `fingerprint`.

        Raises:
            CheckpointError: the checkpoint is damaged, or of another training.
            UnsupportedError: the loss is to be divided and cannot be.
        """
        self._team = workspace.team
        self._gradients = gradients(self.network, self.loss, workspace.team, workspace.at_once)
        found = unfinished(workspace)
        if found is not None:
            self._resume(found, identity)
            monitor.say(f"training goes on at step {self.step} of {self.plan.steps}")
        kept = time.monotonic()
        with monitor.progress("training", self.plan.steps, self.step) as advance:
            while not self.finished:
                monitor.log(**self._round(advance))
                path = _path(workspace) if self._team.rank == 0 else None
                if path is not None and (self.finished or time.monotonic() - kept > self.plan.keep_seconds):
                    self._keep(path, identity)
                    kept = time.monotonic()
        self.network.load_state_dict(self.final.chosen())
        self.network.eval()

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to train."""
        return self.step >= self.plan.steps or self.final.finished

    def _round(self, advance: Callable[[int], None]) -> dict[str, float]:
        """The steps up to the next entry of the log, and that entry."""
        began, losses = time.monotonic(), []
        end = min(self.plan.steps, (self.step // self.plan.round + 1) * self.plan.round)
        self.network.train()
        while self.step < end:
            losses.append(self._advance())
            advance(1)
        judged = self.final.after_round(self.network)
        for module in (self.network, self.final):
            self._team.agree(module)
        loss = self._team.add(torch.tensor(sum(losses) / len(losses), dtype=torch.float64))
        self.seconds += time.monotonic() - began
        return {
            "step": self.step,
            "loss": float(loss),
            **judged,
            "simulations": self.plan.simulations(self.step),
            "seconds": round(self.seconds, 2),
        }

    def _advance(self) -> float:
        """One step; returns its loss, of several processes this one's part."""
        factor = self.plan.rate(self.step)
        for group in self._groups():
            group["lr"] = factor * group["initial_lr"]
        loss = self._gradients(self.step)
        nn.utils.clip_grad_norm_(self.network.parameters(), self.plan.clip)
        for optimiser in self.optimisers.values():
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.final.after_step(self.network)
        self.step += 1
        return float(loss)

    def _groups(self) -> list[dict[str, Any]]:
        return [group for optimiser in self.optimisers.values() for group in optimiser.param_groups]

    # --- the checkpoint ---

    def _keep(self, path: Path, identity: str) -> None:
        parts = {"network": self.whole.state_dict(), "final": self.final.state_dict()}
        parts |= {f"optimiser {name}": _state(optimiser) for name, optimiser in self.optimisers.items()}
        header = {"identity": identity, "step": self.step, "seconds": self.seconds}
        write_checkpoint(path, _FORMAT, parts, header)

    def _resume(self, path: Path, identity: str) -> None:
        kept = read_checkpoint(path, _FORMAT)
        kept.check_identity(identity)
        kept.restore("network", self.whole)
        kept.restore("final", self.final)
        for name, optimiser in self.optimisers.items():
            _restore(optimiser, kept, f"optimiser {name}")
        self.step, self.seconds = int(kept.header["step"]), float(kept.header["seconds"])


def _path(workspace: Workspace) -> Path | None:
    return None if workspace.folder is None else workspace.folder / "training.safetensors"


def _state(optimiser: Optimizer) -> dict[str, Tensor]:
    """What an optimiser remembers of each weight, "index.name"."""
    state = optimiser.state_dict()["state"]
    return {f"{index}.{name}": value for index, one in state.items() for name, value in one.items()}


def _restore(optimiser: Optimizer, kept: Checkpoint, part: str) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in kept.parts.get(part, {}).items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict(optimiser.state_dict() | {"state": state})
