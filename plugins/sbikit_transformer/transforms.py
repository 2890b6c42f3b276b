r"""The map between latent fields and the coordinates in which the network works.

It is y = (t - m(u)) / s, where t opens the bounds of the field, see `bounds`. A lower bound may depend on the
parameters, and is information on them, so a field is decoded with the parameters of its own draw. The width
of the bend is half the mean height where the simulator declares such a bound; elsewhere it is what brings the
field nearest to normal, since it may be far from that above its bound too. The mean m is quadratic in the
white scalars u. Mean and scale s are one number a channel where the field is stationary, else one a pixel.
All of it is done in units of each channel's own mean and spread.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from sbikit import (
    Field,
    Simulator,
    SupportsFloor,
    Values,
    copied,
    round_into,
    support_bounds,
    supports,
)
from sbikit.learning import mean_and_spread
from sbikit_transformer.bounds import SOFTNESS, fit_bend, harden, soften
from sbikit_transformer.polynomials import fit_least_squares, quadratic

# Least scale, in units of the channel's spread: what varies less, by rounding, is drawn as its mean. In
# float32 and, where pixels have scales of their own, in float64.
_LEAST_SPREAD = {torch.float32: 1e-6, torch.float64: 1e-12}
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
        placed = [not f.stationary for f in fields for _ in range(f.channels)]
        self.somewhere = any(placed)
        self.dtype = torch.float64 if self.somewhere else torch.float32
        cells = self.grid if self.somewhere else (1,) * len(self.grid)
        self.register_buffer("placed", torch.tensor(placed, dtype=torch.bool), persistent=False)
        self.register_buffer("mean", torch.zeros(features, self.channels, *cells, dtype=self.dtype))
        self.register_buffer("sd", torch.ones(self.channels, *cells, dtype=self.dtype))
        self.register_buffer("offset", torch.zeros(self.channels))
        self.register_buffer("unit", torch.ones(self.channels))
        self.register_buffer("centre", torch.zeros(self.channels))
        self.register_buffer("softness", torch.full((self.channels,), SOFTNESS[0]))
        self.register_buffer("bounded", torch.zeros(self.channels, dtype=torch.bool))
        self.register_buffer("depth", torch.ones(self.channels))
        self.register_buffer("sign", torch.ones(self.channels))
        self.register_buffer("top", torch.full((self.channels,), math.inf))
        self.supports = {f.name: support_bounds(f.name, f.support) for f in fields}

    mean: Tensor
    sd: Tensor
    placed: Tensor
    offset: Tensor
    unit: Tensor
    centre: Tensor
    softness: Tensor
    bounded: Tensor
    depth: Tensor
    sign: Tensor
    top: Tensor

    def vary(self) -> Tensor:
        """Which pixels vary at all, (C, *grid)."""
        return (self.sd > 0).expand(self.channels, *self.grid)

    def _stack(self, values: Values) -> Tensor:
        """All channels, (*, C, *grid), in units of their own."""
        x = torch.cat([values[f.name] for f in self.fields], dim=-1 - len(self.grid))
        return (x.to(self.dtype) - self._spread(self.offset)) / self._spread(self.unit)

    def _spread(self, per_channel: Tensor) -> Tensor:
        """(*, C) -> (*, C, 1, ...), to broadcast over the grid."""
        return per_channel[(..., *[None] * len(self.grid))]

    def _parts(self) -> Iterator[tuple[Field, slice]]:
        first = 0
        for field in self.fields:
            yield field, slice(first, first := first + field.channels)

    def _declared(self, vectors: Values) -> Values:
        """The bounds that the simulator declares, (*, C) each, in the channels' units."""
        floor = self.simulator.floor(copied(vectors)) if supports(self.simulator, SupportsFloor) else {}
        return {
            field.name: (floor[field.name].to(self.dtype) - self.offset[part]) / self.unit[part]
            for field, part in self._parts()
            if field.name in floor
        }

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
        for field, part in self._parts():
            for i in range(field.channels):
                self.offset[part.start + i], self.unit[part.start + i] = mean_and_spread(
                    values[field.name][:, i]
                )
        x = self._stack(values).float().transpose(0, 1).flatten(2)
        self.centre.copy_(x.flatten(1).mean(1))
        declared = self._declared(values)
        for field, part in self._parts():
            for channel in range(part.start, part.stop):
                if field.name in declared:
                    floor = declared[field.name][..., channel - part.start, None]
                    self.depth[channel] = (x[channel] - floor).mean()
                    self.top[channel] = self._supported(field, channel)[1]
                    self.bounded[channel] = bool(self.depth[channel] > 0)
                else:
                    self._fit_bend(channel, field, x[channel])
        t = self._soften(self._stack(values), values, u)
        features = quadratic(u).double()
        cells = self._by_cell(t)
        for channel in range(self.channels):  # one at a time: less memory
            target = cells[:, channel].double()
            fitted = fit_least_squares(features, target.flatten(1)).unflatten(1, target.shape[1:])
            self.mean[:, channel] = fitted
            left = t[:, channel] - torch.tensordot(features, fitted, 1)
            sd = left.std(0) if self.placed[channel] else left.std().expand(target.shape[1:])
            self.sd[channel] = torch.where(sd > _LEAST_SPREAD[self.dtype], sd, 0.0)

    def _by_cell(self, x: Tensor) -> Tensor:
        """Means (*, C, *cells) of a field over what shares a mean and a scale."""
        mean = x.mean(tuple(range(-len(self.grid), 0)), keepdim=True)
        return torch.where(self._spread(self.placed), x, mean) if self.somewhere else mean

    def _mean(self, u: Tensor) -> Tensor:
        """m at scalars (*, P), (*, C, *cells)."""
        return torch.tensordot(quadratic(u).to(self.dtype), self.mean, 1)

    def _supported(self, field: Field, channel: int) -> tuple[float, float]:
        """Bounds of a field's support in the units of a channel."""
        offset, unit = float(self.offset[channel]), float(self.unit[channel])
        low, high = self.supports[field.name]
        return (low - offset) / unit, (high - offset) / unit

    def _fit_bend(self, channel: int, field: Field, x: Tensor) -> None:
        """Bounds of a channel and the width of their bend; x is (M, pixels)."""
        bend = fit_bend(x, *self._supported(field, channel))
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
        return ((t - self._mean(u)) / torch.where(self.sd > 0, self.sd, 1.0)).float()

    def decode(self, y: Tensor, vectors: Values, u: Tensor) -> dict[str, Tensor]:
        """y (*, C, *grid) with the draws' own vectors and scalars u (*, P) -> the latent fields."""
        t = y.to(self.dtype) * self.sd + self._mean(u)
        low, c = self._bound(vectors, u)
        straight = harden(t, low, c, self._spread(self.top)) * self._spread(self.sign)
        x = torch.where(self._spread(self.bounded), straight, t)
        x = x * self._spread(self.unit) + self._spread(self.offset)
        parts = torch.split(x, [f.channels for f in self.fields], dim=-1 - len(self.grid))
        return {
            f.name: round_into(f.name, f.support, part) for f, part in zip(self.fields, parts, strict=True)
        }
