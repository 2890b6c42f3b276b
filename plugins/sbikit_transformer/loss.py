"""What the denoiser is trained to make small, and the simulations of each step.

Step k has its simulations and its noise from (seed, k) alone; any rows of it can be had without the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

import torch
from torch import Tensor, nn

from sbikit import JointDraws, Values, derive_seed, generator
from sbikit.learning import FixedSet
from sbikit_transformer.denoiser import Denoiser
from sbikit_transformer.levels import TrainingLevels

Noise = Sequence[Tensor]


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


class DenoisingLoss:
    """Squared error of field and scalars, each in units of the guide's own error, summed 1:1.

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
        copies: int,
        seed: int,
        device: torch.device,
    ) -> None:
        self._denoiser, self._draws, self._device = denoiser, draws, device
        self._seed, self._copies = seed, copies
        self._noise: tuple[int, Noise] | None = None

    @cached_property
    def _levels(self) -> TrainingLevels:
        """Asked for when the first step is made: a checkpoint may have changed them before."""
        return self._denoiser.training_levels()

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
            self._noise = step, self._draw_noise(self.rows(step) * self._copies, source)
        rows = slice(first * self._copies, (first + count) * self._copies)
        return self._of(values, self._copies, [part[rows] for part in self._noise[1]])

    @torch.no_grad()
    def judged(self, network: nn.Module, draws: Iterable[Values], batch: int, copies: int) -> float:
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
                    total += size * float(self._of(some, copies, self._draw_noise(size * copies, source)))
                    count += size
        return total / count

    def _draw_noise(self, count: int, source: torch.Generator) -> Noise:
        """Levels ln sigma (count,), and noise for fields (count, C, *grid) and scalars (count, P)."""
        channels, scalars = self._denoiser.field_map.channels, self._denoiser.coordinates.size
        levels = self._levels.draw(count, source)
        shapes = ((channels, *self._denoiser.grid), (scalars,))
        return [levels, *(torch.randn(count, *shape, generator=source) for shape in shapes)]

    def _of(self, values: Values, copies: int, noise: Noise) -> Tensor:
        """The loss of simulations, each (B, *shape), with noise for `copies` of each."""
        values = {name: value.to(self._device) for name, value in values.items()}
        log_sigma, *noises = (part.to(self._device) for part in noise)
        with torch.no_grad():
            field, u = self._denoiser.encode(values)
            clean = field.repeat_interleave(copies, 0), u.repeat_interleave(copies, 0)
            condition = self._denoiser.condition(values).repeat(copies)
            noisy = []
            for part, unit_noise in zip(clean, noises, strict=True):
                sigma = log_sigma.exp().view(-1, *[1] * (part.ndim - 1))
                noisy.append(part + sigma * unit_noise)
        found, scale = self._denoiser((noisy[0], noisy[1]), log_sigma, condition)
        total = torch.zeros((), device=self._device)
        for estimate, truth, unit in zip(found, clean, scale, strict=True):
            if truth.shape[1]:
                total = total + ((estimate - truth) / unit).square().mean()
        return total
