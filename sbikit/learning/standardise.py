"""Scales of what networks see: one mean and one standard deviation a channel.

A constant a pixel would carry the shapes of the training maps into the data.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Of a channel's largest value: float32 holds 7 digits, so a smaller spread is rounding. A larger value
# would leave channels with a small signal on a large offset as they are.
_ROUNDING = 1e-6


class Standardise(nn.Module):
    """(x - mean) / sd with one constant a channel, frozen after `fit`: (B, C, *grid) to the same."""

    mean: Tensor
    sd: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("sd", torch.ones(channels))

    def fit(self, x: Tensor) -> None:
        """Set the constants from training draws (M, C, *grid); without channels there are none."""
        if not len(self.mean):
            return
        by_channel = x.transpose(0, 1).flatten(1)
        self.mean.copy_(by_channel.mean(1))
        sd = by_channel.std(1)
        # A channel that never varies carries nothing; dividing by its rounding error would blow it up.
        self.sd.copy_(torch.where(sd > _ROUNDING * by_channel.abs().amax(1), sd, 1.0))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *grid) to the same."""
        shape = (-1, *(1,) * (x.ndim - 2))
        return (x - self.mean.view(shape)) / self.sd.view(shape)
