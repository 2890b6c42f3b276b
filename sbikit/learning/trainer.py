"""The training loop: steps in rounds, after each of which it is logged and, when due, kept.

Step k's loss depends on (seed, k) alone and all else that steps depend on is in the checkpoint, so a training
that was interrupted and goes on ends where it would have ended, to the bit.

On several devices each process goes through the same steps with a share of every batch (`gradients`); what is
judged after a round is the first one's, which alone writes checkpoints, so that all stay alike.

Where a training is to take so long (`Duration`), the first steps are timed, at rate 0, and undone. The number
of steps is then fixed and kept, so that such a training is, to the bit, the one of that many steps.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sbikit.learning.averages import FinalWeights
from sbikit.learning.checkpoint import read_checkpoint, write_checkpoint
from sbikit.learning.divergence import check_finite, check_risen
from sbikit.learning.duration import LEAST_MEASURED, MEASURED, Duration
from sbikit.learning.gradients import gradients
from sbikit.learning.looks import Looks, Record
from sbikit.roles.monitor import Monitor, Workspace
from sbikit.roles.team import Alone, Team

_FORMAT = "training 2"


@dataclass(frozen=True)
class Plan:
    """How long to train and what happens on the way.

    Args:
        steps: optimiser steps, at most, or how long they are to take.
        round: steps between two entries of the log.
        clip: largest norm of a step's gradient.
        rate: step, number of steps -> factor on the optimisers' learning rates.
        simulations: step -> simulations used before it, for the log.
        keep_seconds: least time between two checkpoints.
        looks: at the network on the way, for the log.
        most_loss: loss of the first step -> median loss of a round above which training has diverged.
        remedy: what to do about a training that diverges.
    """

    steps: int | Duration
    round: int
    clip: float
    rate: Callable[[int, int], float]
    simulations: Callable[[int], int]
    keep_seconds: float
    looks: Looks | None = None
    most_loss: Callable[[float], float] | None = None
    remedy: str = "lower the learning rate"


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

    Attributes:
        steps: how many steps it takes, at most; of a plan that says how long instead, 0 until it is known.
        step: how many it has taken.
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
        self.steps = 0 if isinstance(plan.steps, Duration) else plan.steps
        self.step = 0
        self.seconds = 0.0
        self._first_loss: float | None = None
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
            TrainingError: it diverges; the checkpoint stays as it was before.
            UnsupportedError: the loss is to be divided and cannot be.
        """
        self._team = workspace.team
        self._gradients = gradients(self.network, self.loss, workspace.team, workspace.at_once)
        found = unfinished(workspace)
        if found is not None:
            self._resume(found, identity)
            monitor.say(f"training goes on at step {self.step} of {self.steps}")
        path = _path(workspace) if self._team.rank == 0 else None
        if found is None and isinstance(self.plan.steps, Duration):
            self._fix_steps(self.plan.steps, monitor)
            if path is not None:  # at once: the number of steps must never be measured again
                self._keep(path, identity)
        kept = time.monotonic()
        with monitor.progress("training", self.steps, self.step) as advance:
            while not self.finished:
                for record in self._round(advance):
                    monitor.log(step=self.step, **record)
                if path is not None and (self.finished or time.monotonic() - kept > self.plan.keep_seconds):
                    self._keep(path, identity)
                    kept = time.monotonic()
        self.network.load_state_dict(self.final.chosen())
        self.network.eval()

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to train."""
        return self.step >= self.steps or self.final.finished

    def _round(self, advance: Callable[[int], None]) -> list[Record]:
        """The steps up to the next entry of the log, that entry, and those of a look."""
        began, before, parts = time.monotonic(), self.step, []
        end = min(self.steps, (self.step // self.plan.round + 1) * self.plan.round)
        self.network.train()
        while self.step < end:
            parts.append(self._advance(self.plan.rate(self.step, self.steps)))
            advance(1)
        losses = self._team.add(torch.tensor(parts, dtype=torch.float64)).tolist()
        self._check_risen(losses)
        judged = self.final.after_round(self.network)
        for module in (self.network, self.final):
            self._team.agree(module)
        seen = list(self._look(before))
        self.seconds += time.monotonic() - began
        entry: Record = {
            "loss": sum(losses) / len(losses),
            **judged,
            "simulations": self.plan.simulations(self.step),
            "seconds": round(self.seconds, 2),
        }
        return [entry, *seen]

    def _look(self, before: int) -> Iterable[Record]:
        """What a look finds, where one is due after the steps from `before` on."""
        looks = self.plan.looks
        if looks is None or self._team.rank:
            return ()
        if not (self.finished or looks.due(before, self.step, self.steps)):
            return ()
        network = copy.deepcopy(self.network)  # apart from what is trained, whose weights nothing may touch
        network.load_state_dict(self.final.chosen())
        look = looks.at_the_end if self.finished else looks.on_the_way
        with torch.no_grad():
            return list(look(network.eval(), self.step))

    def _advance(self, factor: float) -> float:
        """One step at this share of the learning rates; returns its loss, of several processes this one's
        part.
        """
        for group in self._groups():
            group["lr"] = factor * group["initial_lr"]
        loss = self._gradients(self.step)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.plan.clip)
        for optimiser in self.optimisers.values():
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.final.after_step(self.network)
        check_finite(float(loss), float(norm), self.step, self.plan.remedy)
        self.step += 1
        return float(loss)

    def _check_risen(self, losses: list[float]) -> None:
        """Of the steps of a round, over all processes."""
        if self._first_loss is None:
            self._first_loss = losses[0]
        if self.plan.most_loss is not None:
            check_risen(losses, self.plan.most_loss(self._first_loss), self.step, self.plan.remedy)

    def _groups(self) -> list[dict[str, Any]]:
        return [group for optimiser in self.optimisers.values() for group in optimiser.param_groups]

    # --- how many steps ---

    def _fix_steps(self, duration: Duration, monitor: Monitor) -> None:
        """Measure the rate of steps and fix their number; all else is left as it was."""
        began, before = time.monotonic(), copy.deepcopy(self._parts())
        a_step = self._seconds_a_step(duration)
        self._load(before)
        self.step, self.seconds = 0, time.monotonic() - began
        self.steps = int(self._of_first(duration.steps(self.seconds, a_step)))
        monitor.say(
            f"training: {self.steps} steps, at {a_step:.3g} s each, for {duration.seconds / 60.0:g} minutes"
        )

    def _seconds_a_step(self, duration: Duration) -> float:
        """From a few at rate 0, and from what is judged after a round."""
        times: list[float] = []
        self.network.train()
        while len(times) < LEAST_MEASURED or self._of_first(sum(times) < MEASURED * duration.seconds):
            began = time.monotonic()
            self._advance(0.0)
            times.append(time.monotonic() - began)
        later, began = times[len(times) // 2 :], time.monotonic()
        self.final.after_round(self.network)
        return sum(later) / len(later) + (time.monotonic() - began) / self.plan.round

    def _of_first(self, number: float) -> float:
        """What the first process has found, in all of them."""
        return float(self._team.add(torch.tensor(0.0 if self._team.rank else number, dtype=torch.float64)))

    # --- the checkpoint ---

    def _parts(self) -> dict[str, Mapping[str, Tensor]]:
        """All that steps depend on, beside the number of the next one."""
        parts: dict[str, Mapping[str, Tensor]] = {
            f"optimiser {k}": _state(v) for k, v in self.optimisers.items()
        }
        return parts | {"network": self.whole.state_dict(), "final": self.final.state_dict()}

    def _keep(self, path: Path, identity: str) -> None:
        header = {"identity": identity, "step": self.step, "steps": self.steps, "seconds": self.seconds}
        write_checkpoint(path, _FORMAT, self._parts(), header | {"first_loss": self._first_loss})

    def _resume(self, path: Path, identity: str) -> None:
        kept = read_checkpoint(path, _FORMAT)
        kept.check_identity(identity)
        kept.restore("network", self.whole)
        kept.restore("final", self.final)
        for name, optimiser in self.optimisers.items():
            _restore(optimiser, kept.parts.get(f"optimiser {name}", {}))
        self.step, self.seconds = int(kept.header["step"]), float(kept.header["seconds"])
        self.steps, self._first_loss = int(kept.header["steps"]), kept.header["first_loss"]

    def _load(self, parts: Mapping[str, Mapping[str, Tensor]]) -> None:
        """What `_parts` gave."""
        self.whole.load_state_dict(dict(parts["network"]))
        self.final.load_state_dict(dict(parts["final"]))
        for name, optimiser in self.optimisers.items():
            _restore(optimiser, parts[f"optimiser {name}"])


def _path(workspace: Workspace) -> Path | None:
    return None if workspace.folder is None else workspace.folder / "training.safetensors"


def _state(optimiser: Optimizer) -> dict[str, Tensor]:
    """What an optimiser remembers of each weight, "index.name"."""
    state = optimiser.state_dict()["state"]
    return {f"{index}.{name}": value for index, one in state.items() for name, value in one.items()}


def _restore(optimiser: Optimizer, kept: Mapping[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in kept.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict(optimiser.state_dict() | {"state": state})
