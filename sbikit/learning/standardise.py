"""Scales of what networks see: one mean and one standard deviation a channel, or a pixel of a channel.

A constant a pixel carries the shapes of the training maps into the data, so a stationary field has one a
channel. Where things have a place, only a constant a pixel lets all of them be seen.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from sbikit.learning.moments import Moments

# Of the largest value: half the distance between neighbouring float32 numbers, so a smaller spread is
# rounding. A larger value would leave channels with a small signal on a large offset as they are.
_ROUNDING = 6e-8
# Numbers at once, 1 MiB in float64: more fall out of processors' caches.
_AT_ONCE = 2**17


class Standardise(nn.Module):
    """(x - mean) / sd with constants frozen after `fit`, computed in float64: a float32 holds a small signal
    on a large offset, but not its mean.

    What never varies is divided by its size, so that it is nearly zero in any unit.

    Args:
        shape: of the constants: (C,), or (C, *grid) for one a pixel.
    """

    mean: Tensor
    sd: Tensor

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("sd", torch.ones(shape, dtype=torch.float64))

    def fit(self, x: Tensor) -> None:
        """Set the constants from training draws (M, C, *grid); without channels there are none."""
        self.fit_parts((x,))

    def fit_parts(self, parts: Iterable[Tensor]) -> None:
        """The same from draws that come in parts, each (m, C, *grid)."""
        found = [Moments(self.mean.ndim - 1) for _ in range(len(self.mean))]
        for part in parts:
            for channel, moments in enumerate(found):  # one at a time: less memory
                moments.add(part[:, channel])
        for channel, moments in enumerate(found):
            self.mean[channel], self.sd[channel] = moments.mean, spread(moments)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *grid) to the same."""
        shape = (*self.mean.shape, *(1,) * (x.ndim - 1 - self.mean.ndim))
        mean, sd = self.mean.view(shape), self.sd.view(shape)
        rows = max(1, _AT_ONCE // max(1, x[:1].numel()))
        parts = [(some - mean).div_(sd).to(x.dtype) for some in x.split(rows)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def mean_and_spread(x: Tensor, kept: int = 0) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of training draws, float64; of what never varies its size, or 1.

    Args:
        x: (M, *shape).
        kept: how many axes of `shape`, the first ones, have constants of their own.
    """
    moments = Moments(kept)
    moments.add(x)
    return moments.mean, spread(moments)


def spread(moments: Moments) -> Tensor:
    """The standard deviation, float64; of what never varies its size, or 1."""
    sd, largest = moments.variance.sqrt(), moments.largest
    size = torch.where(largest > 0, largest, 1.0)
    return torch.where(sd > _ROUNDING * largest, sd, size)
