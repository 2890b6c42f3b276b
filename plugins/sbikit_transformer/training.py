"""Training: fresh simulations at every step, Muon on the hidden matrices and AdamW elsewhere.

Step k draws its simulations and its noise from (seed, k) alone, so a training that was interrupted
and goes on from its checkpoint ends where it would have ended.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from sbikit import Monitor, Simulations
from sbikit.problem.seeds import derive_seed, generator
from sbikit_transformer import checkpoint
from sbikit_transformer.denoiser import Denoiser
from sbikit_transformer.diffusion import draw_log_sigma

_LOG_EVERY = 50
_SAVE_SECONDS = 30.0


@dataclass(frozen=True)
class Schedule:
    """How long and how fast.

    Args:
        steps: optimiser steps.
        batch: simulations a step.
        warm_up: simulations that fit constants and guide, drawn before the first step.
        rate: learning rate of AdamW; Muon's is ten times it.
        ema: decay of the averaged weights.
    """

    steps: int
    batch: int
    warm_up: int
    rate: float
    ema: float


class Training:
    """A training that can be interrupted after any step."""

    def __init__(self, denoiser: Denoiser, schedule: Schedule, seed: int, device: torch.device) -> None:
        self.denoiser, self.schedule, self.seed, self.device = denoiser, schedule, seed, device
        network = denoiser.network
        network.reset(generator(derive_seed(seed, "weights")))
        self.average = copy.deepcopy(network)
        hidden = [p for name, p in network.named_parameters() if _is_hidden(name)]
        other = [p for name, p in network.named_parameters() if not _is_hidden(name)]
        self.optimisers: dict[str, torch.optim.Optimizer] = {
            "muon": torch.optim.Muon(hidden, lr=10.0 * schedule.rate, weight_decay=0.0),
            "adamw": torch.optim.AdamW(other, lr=schedule.rate, betas=(0.9, 0.95), weight_decay=0.0),
        }
        self.step = 0
        self.seconds = 0.0

    def run(self, simulations: Simulations, monitor: Monitor) -> None:
        """Train to the last step; `denoiser.network` then holds the averaged weights."""
        path = monitor.folder / "training.safetensors" if monitor.folder else None
        if path and path.exists():
            self._resume(path)
            monitor.say(f"training goes on at step {self.step} of {self.schedule.steps}")
        else:
            self._warm_up(simulations, monitor)
        self.denoiser.to(self.device)
        self.average.to(self.device)
        started = saved = time.monotonic()
        before, total, counted = self.seconds, 0.0, 0
        with monitor.progress("training", self.schedule.steps, self.step) as advance:
            while self.step < self.schedule.steps:
                total += self._advance(simulations)
                counted += 1
                advance(1)
                now = time.monotonic()
                self.seconds = before + now - started
                if self.step % _LOG_EVERY == 0 or self.step == self.schedule.steps:
                    seen = self.schedule.warm_up + self.step * self.schedule.batch
                    monitor.log(
                        step=self.step, loss=total / counted, simulations=seen, seconds=round(self.seconds, 2)
                    )
                    total, counted = 0.0, 0
                if path and (now - saved > _SAVE_SECONDS) and self.step % _LOG_EVERY == 0:
                    self._save(path)
                    saved = time.monotonic()
        self.denoiser.network.load_state_dict(self.average.state_dict())
        self.denoiser.eval()

    def _warm_up(self, simulations: Simulations, monitor: Monitor) -> None:
        parts = []
        chunk = 512
        with monitor.progress("simulating for the Gaussian guide", self.schedule.warm_up) as advance:
            for first in range(0, self.schedule.warm_up, chunk):
                count = min(chunk, self.schedule.warm_up - first)
                parts.append(simulations.training(first, count))
                advance(count)
        self.denoiser.fit_maps({name: torch.cat([p[name] for p in parts]) for name in parts[0]})

    def _advance(self, simulations: Simulations) -> float:
        """One step; returns its loss."""
        schedule = self.schedule
        first = schedule.warm_up + self.step * schedule.batch
        batch = {k: v.to(self.device) for k, v in simulations.training(first, schedule.batch).items()}
        for optimiser in self.optimisers.values():
            base = 10.0 * schedule.rate if isinstance(optimiser, torch.optim.Muon) else schedule.rate
            for group in optimiser.param_groups:
                group["lr"] = base * _cosine(self.step, schedule.steps)
        loss = self._loss(batch, generator(derive_seed(self.seed, "noise", self.step)))
        loss.backward()
        nn.utils.clip_grad_norm_(self.denoiser.network.parameters(), 1.0)
        for optimiser in self.optimisers.values():
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        decay = min(schedule.ema, (1.0 + self.step) / (10.0 + self.step))
        with torch.no_grad():
            pairs = zip(self.average.parameters(), self.denoiser.network.parameters(), strict=True)
            for mean, new in pairs:
                mean.lerp_(new, 1.0 - decay)
        self.step += 1
        return float(loss.detach())

    def _loss(self, batch: Mapping[str, Tensor], source: torch.Generator) -> Tensor:
        """Squared error of field and scalars, each in units of the guide's own error, summed 1:1."""
        with torch.no_grad():
            clean = self.denoiser.encode(batch)
            condition = self.denoiser.condition(batch)
            log_sigma = draw_log_sigma(self.schedule.batch, source).to(self.device)
            noisy = []
            for part in clean:
                noise = torch.randn(part.shape, generator=source).to(self.device)
                noisy.append(part + log_sigma.exp().view(-1, *[1] * (part.ndim - 1)) * noise)
        found, scale = self.denoiser((noisy[0], noisy[1]), log_sigma, condition)
        total = torch.zeros((), device=self.device)
        for estimate, truth, unit in zip(found, clean, scale, strict=True):
            if truth.shape[1]:
                total = total + ((estimate - truth) / unit).square().mean()
        return total

    def _state(self) -> dict[str, Tensor]:
        tensors = {f"denoiser.{k}": v for k, v in self.denoiser.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.state_dict().items()}
        for name, optimiser in self.optimisers.items():
            for index, state in optimiser.state_dict()["state"].items():
                tensors |= {f"{name}.{index}.{k}": v for k, v in state.items()}
        return tensors

    def _save(self, path: Path) -> None:
        checkpoint.write(path, self._state(), {"step": self.step, "seconds": self.seconds, "seed": self.seed})

    def _resume(self, path: Path) -> None:
        tensors, header = checkpoint.read(path)
        checkpoint.restore(self.denoiser, _strip(tensors, "denoiser."), path)
        checkpoint.restore(self.average, _strip(tensors, "average."), path)
        for name, optimiser in self.optimisers.items():
            state: dict[int, dict[str, Tensor]] = {}
            for key, value in _strip(tensors, f"{name}.").items():
                index, _, entry = key.partition(".")
                state.setdefault(int(index), {})[entry] = value
            optimiser.load_state_dict(optimiser.state_dict() | {"state": state})
        self.step, self.seconds = int(header["step"]), float(header["seconds"])


def _is_hidden(name: str) -> bool:
    """Whether a weight is a matrix inside a block, which Muon trains."""
    return name.startswith("blocks.") and any(
        f".{part}.weight" in name for part in ("qkv", "out", "up", "down")
    )


def _cosine(step: int, steps: int) -> float:
    """Learning-rate factor: 100 steps of warm-up, then half a cosine to zero."""
    warm = min(100, steps // 10 + 1)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1.0 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _strip(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
