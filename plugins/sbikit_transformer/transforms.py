r"""The map between latent fields and the coordinates in which the network works.

It is y = (t - m(u)) / s, where t opens the bounds of the field, see `bounds`. A lower bound may depend on the
parameters, and is information on them, so a field is decoded with the parameters of its own draw. The width
of the bend is half the mean height where the simulator declares such a bound; elsewhere it is what brings the
field nearest to normal, since it may be far from that above its bound too. The mean m is quadratic in the
white scalars u.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from sbikit import Field, Simulator, SupportsFloor, Values, round_into, support_bounds, supports
from sbikit_transformer.bounds import SOFTNESS, fit_bend, harden, soften
from sbikit_transformer.polynomials import fit_least_squares, quadratic

# Of the largest value: a smaller spread is rounding, and the channel is drawn as its mean.
_LEAST_SPREAD = 1e-7
# Of the mean height above a declared bound: the least height taken where the bound of some parameters lies
# near the mean of all simulations, or above it.
_LEAST_WIDTH = 0.05


class FieldMap(torch.nn.Module):
    """All latent fields of a problem, on one grid, as one field y of C channels.

    A channel's bounds come from the simulator's `floor` and from the field's support. Where there are none
    and the field is skewed, its bound lies a little below the least value simulated.

    Raises:
        UnsupportedError: the support of a field is no interval.
    """

    def __init__(self, simulator: Simulator, fields: tuple[Field, ...], scalars: int) -> None:
        super().__init__()
        self.simulator = simulator
        self.fields = fields
        self.channels = sum(f.channels for f in fields)
        self.grid = fields[0].grid if fields else ()
        features = 1 + scalars + scalars * (scalars + 1) // 2
        self.register_buffer("mean", torch.zeros(features, self.channels))
        self.register_buffer("sd", torch.ones(self.channels))
        self.register_buffer("centre", torch.zeros(self.channels))
        self.register_buffer("softness", torch.full((self.channels,), SOFTNESS[0]))
        self.register_buffer("bounded", torch.zeros(self.channels, dtype=torch.bool))
        self.register_buffer("depth", torch.ones(self.channels))
        self.register_buffer("sign", torch.ones(self.channels))
        self.register_buffer("top", torch.full((self.channels,), math.inf))
        self.supports = {f.name: support_bounds(f.name, f.support) for f in fields}

    mean: Tensor
    sd: Tensor
    centre: Tensor
    softness: Tensor
    bounded: Tensor
    depth: Tensor
    sign: Tensor
    top: Tensor

    def vary(self) -> Tensor:
        """Which channels vary at all, (C,)."""
        return self.sd > 0

    def _stack(self, values: Values) -> Tensor:
        return torch.cat([values[f.name] for f in self.fields], dim=-1 - len(self.grid))

    def _spread(self, per_channel: Tensor) -> Tensor:
        """(*, C) -> (*, C, 1, ...), to broadcast over the grid."""
        return per_channel[(..., *[None] * len(self.grid))]

    def _parts(self) -> Iterator[tuple[Field, slice]]:
        first = 0
        for field in self.fields:
            yield field, slice(first, first := first + field.channels)

    def _declared(self, vectors: Values) -> Values:
        """The bounds that the simulator declares, (*, C) each."""
        return self.simulator.floor(vectors) if supports(self.simulator, SupportsFloor) else {}

    def _bound(self, vectors: Values, u: Tensor) -> tuple[Tensor, Tensor]:
        """Lower bound of each channel, mirrored if it is, and width c of its bend, (*, C, 1, ...)."""
        low = (self.centre - self.depth).expand(*u.shape[:-1], -1).clone()
        declared = self._declared(vectors)
        for field, part in self._parts():
            if field.name in declared:
                low[..., part] = declared[field.name].to(low)
        height = torch.maximum(self.centre - low, _LEAST_WIDTH * self.depth)
        return self._spread(low), self._spread(self.softness * height)

    def fit(self, values: Values, u: Tensor) -> None:
        """Fit bounds, mean and scale to M simulations; u is (M, P)."""
        x = self._stack(values).transpose(0, 1).flatten(2)
        self.centre.copy_(x.flatten(1).mean(1))
        declared = self._declared(values)
        for field, part in self._parts():
            for channel in range(part.start, part.stop):
                if field.name in declared:
                    floor = declared[field.name][..., channel - part.start, None]
                    self.depth[channel] = (x[channel] - floor).mean()
                    self.top[channel] = self.supports[field.name][1]
                    self.bounded[channel] = bool(self.depth[channel] > 0)
                else:
                    self._fit_bend(channel, field, x[channel])
        t = self._soften(self._stack(values), values, u)
        features = quadratic(u)
        self.mean.copy_(fit_least_squares(features.double(), t.flatten(2).mean(-1).double()))
        left = t - self._spread(features @ self.mean)
        sd, size = left.transpose(0, 1).flatten(1).std(1), t.abs().transpose(0, 1).flatten(1).amax(1)
        constant = (x.amin((1, 2)) == x.amax((1, 2))) | (sd <= _LEAST_SPREAD * size)
        self.sd.copy_(torch.where(constant, 0.0, sd))
        mean = torch.zeros_like(self.mean)
        mean[0] = t.transpose(0, 1).flatten(1).double().mean(1)
        self.mean.copy_(torch.where(constant, mean, self.mean))

    def _fit_bend(self, channel: int, field: Field, x: Tensor) -> None:
        """Bounds of a channel and the width of their bend; x is (M, pixels)."""
        bend = fit_bend(x, *self.supports[field.name])
        if bend is None:
            return
        self.sign[channel], self.top[channel], self.bounded[channel] = bend.sign, bend.high, True
        self.centre[channel] *= bend.sign
        self.depth[channel] = self.centre[channel] - bend.low
        self.softness[channel] = bend.c / self.depth[channel]

    def _soften(self, x: Tensor, vectors: Values, u: Tensor) -> Tensor:
        low, c = self._bound(vectors, u)
        bent = soften(x * self._spread(self.sign), low, c, self._spread(self.top))
        return torch.where(self._spread(self.bounded), bent, x)

    def encode(self, values: Values, u: Tensor) -> Tensor:
        """Latent fields and vectors, u (*, P) -> y (*, C, *grid)."""
        t = self._soften(self._stack(values), values, u)
        return (t - self._spread(quadratic(u) @ self.mean)) / self._spread(
            torch.where(self.sd > 0, self.sd, 1.0)
        )

    def decode(self, y: Tensor, vectors: Values, u: Tensor) -> dict[str, Tensor]:
        """y (*, C, *grid) with the draws' own vectors and scalars u (*, P) -> the latent fields."""
        t = y * self._spread(self.sd) + self._spread(quadratic(u) @ self.mean)
        low, c = self._bound(vectors, u)
        straight = harden(t, low, c, self._spread(self.top)) * self._spread(self.sign)
        x = torch.where(self._spread(self.bounded), straight, t)
        parts = torch.split(x, [f.channels for f in self.fields], dim=-1 - len(self.grid))
        return {
            f.name: round_into(f.name, f.support, part) for f, part in zip(self.fields, parts, strict=True)
        }
