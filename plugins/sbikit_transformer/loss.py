"""What the denoiser is trained to make small, and the simulations of each step.

Step k has its simulations and its noise from (seed, k) alone; any rows of it can be had without the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from sbikit import JointDraws, Values, derive_seed, generator
from sbikit.learning import FixedSet
from sbikit_transformer.denoiser import Denoiser
from sbikit_transformer.levels import TrainingLevels
from sbikit_transformer.perceptron import DROPPED, Perceptron

SCALARS, FIELD = "scalars", "of_field"  # names of the networks

Noise = dict[str, tuple[Tensor, ...]]
"""Of scalars and field: levels ln sigma (B,), and standard normal noise (B, ...); in training, of a
perceptron, which of its hidden numbers are kept.
"""


class Endless:
    """Fresh simulations at every step, after those of the guide.

    Args:
        simulations: the training stream.
        first: the first simulation of the first step.
        batch: simulations a step.
    """

    def __init__(self, simulations: JointDraws, *, first: int, batch: int) -> None:
        self._simulations, self._first, self._batch = simulations, first, batch

    def used(self, step: int) -> int:
        """Simulations used before a step, those of the guide included."""
        return self._first + step * self._batch

    def rows(self, step: int) -> int:
        """Simulations of a step."""
        del step
        return self._batch

    def batch(self, step: int, first: int, count: int) -> Values:
        """Simulations `first` to `first + count - 1` of a step, each (count, *shape)."""
        return self._simulations.training(self.used(step) + first, count)


@dataclass(frozen=True)
class Copies:
    """Noisy copies of each simulation in a step."""

    scalars: int
    field: int = 1

    def of(self, name: str) -> int:
        """Of `SCALARS` or `FIELD`."""
        return self.field if name == FIELD else self.scalars


class DenoisingLoss:
    """Squared error of scalars given data, and of the field given data and scalars, each in units of the
    error of what is known without the networks, summed 1:1.

    Args:
        denoiser: on `device`, its maps fitted.
        draws: the simulations of each step.
        copies: noisy copies of each of them.
        seed: fixes the noise.
        device: where to compute.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        draws: Endless | FixedSet,
        *,
        copies: Copies,
        seed: int,
        device: torch.device,
    ) -> None:
        self._denoiser, self._draws, self._device = denoiser, draws, device
        self._seed, self._copies = seed, copies
        self._noise: tuple[int, Noise] | None = None

    @cached_property
    def _levels(self) -> dict[str, TrainingLevels]:
        """Asked for when the first step is made: a checkpoint may have changed them before."""
        found = {SCALARS: self._denoiser.scalar_levels()}
        return found | {FIELD: self._denoiser.field_levels()} if self._denoiser.guide is not None else found

    def rows(self, step: int) -> int:
        """Simulations of a step."""
        return self._draws.rows(step)

    def __call__(self, step: int) -> Tensor:
        """The loss of a step."""
        return self.of(step, 0, self.rows(step))

    def of(self, step: int, first: int, count: int) -> Tensor:
        """The loss of simulations `first` to `first + count - 1` of a step."""
        values = self._draws.batch(step, first, count)
        if self._noise is None or self._noise[0] != step:
            source = generator(derive_seed(self._seed, "noise", step))
            drawn = self._draw_noise(self.rows(step), self._copies, source)
            self._noise = step, self._with_kept(drawn, source)
        return self._of(values, self._copies, _rows(self._noise[1], self._copies, first, count))

    @torch.no_grad()
    def judged(self, network: nn.Module, draws: Iterable[Values], batch: int, copies: Copies) -> float:
        """The loss of a network like the denoiser's own, on simulations whose noise is always the same.

        Args:
            network: is left in evaluation mode.
            draws: chunks of simulations, each (B, *shape).
            batch: simulations at once.
            copies: noisy copies of each.
        """
        source = generator(derive_seed(self._seed, "noise of validation"))
        total, count = 0.0, 0
        with self._denoiser.using(network.eval()):
            for values in draws:
                rows = len(next(iter(values.values())))
                for first in range(0, rows, batch):
                    some = {name: value[first : first + batch] for name, value in values.items()}
                    size = min(batch, rows - first)
                    total += size * float(self._of(some, copies, self._draw_noise(size, copies, source)))
                    count += size
        return total / count

    def _with_kept(self, noise: Noise, source: torch.Generator) -> Noise:
        """Which hidden numbers of a perceptron are kept, over the share that is, beside its noise."""
        network = self._denoiser.network.scalars
        if not isinstance(network, Perceptron):
            return noise
        kept = torch.rand(len(noise[SCALARS][0]), *network.hidden, generator=source) >= DROPPED
        return {**noise, SCALARS: (*noise[SCALARS], kept / (1.0 - DROPPED))}

    def _draw_noise(self, count: int, copies: Copies, source: torch.Generator) -> Noise:
        """For the copies of `count` simulations."""
        shapes = {
            SCALARS: (self._denoiser.coordinates.size,),
            FIELD: (self._denoiser.field_map.channels, *self._denoiser.grid),
        }
        found: Noise = {}
        for name, levels in self._levels.items():
            rows = count * copies.of(name)
            found[name] = levels.draw(rows, source), torch.randn(rows, *shapes[name], generator=source)
        return found

    def _of(self, values: Values, copies: Copies, noise: Noise) -> Tensor:
        """The loss of simulations, each (B, *shape), with noise for the copies of each."""
        values = {name: value.to(self._device) for name, value in values.items()}
        with torch.no_grad():
            field, u = self._denoiser.encode(values)
            condition = self._denoiser.condition(values)
        total = torch.zeros((), device=self._device)
        for name, drawn in noise.items():
            log_sigma, unit, *kept = (part.to(self._device) for part in drawn)
            many = copies.of(name)
            clean = (field if name == FIELD else u).repeat_interleave(many, 0)
            noisy = clean + log_sigma.exp().view(-1, *[1] * (clean.ndim - 1)) * unit
            told = condition.repeat(many)
            if name == FIELD:
                given = u.repeat_interleave(many, 0)
                found, scale = self._denoiser.denoise_field(noisy, given, log_sigma, told)
            else:
                found, scale = self._denoiser.denoise_scalars(noisy, log_sigma, told, *kept)
            total = total + ((found - clean) / scale).square().mean()
        return total


def _rows(noise: Noise, copies: Copies, first: int, count: int) -> Noise:
    """Of the copies of simulations `first` to `first + count - 1`."""
    found: Noise = {}
    for name, parts in noise.items():
        rows = slice(first * copies.of(name), (first + count) * copies.of(name))
        found[name] = tuple(part[rows] for part in parts)
    return found
