r"""The map between latent fields and the coordinates in which the network works.

It is y = (t - m(u)) / s, where t opens the bounds of the field, see `bounds`. A lower bound may depend on the
parameters, and is information on them, so a field is decoded with the parameters of its own draw. The width
of the bend is what brings the field nearest to normal; where the simulator declares such a bound it starts at
half the mean height, and `bend_choice` finds better ones. The mean m is quadratic in the scalars, see
`Quadratic`. Mean and scale s are one number a channel where the field is stationary, else one a pixel.
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
from sbikit.learning import LeastSquares, Mean, Moments, Parts, spread
from sbikit_transformer.bounds import SOFTNESS, fit_bend, harden, soften, stretch
from sbikit_transformer.polynomials import Quadratic, least_squares

# Least scale, in units of the channel's spread: what varies less, by rounding, is drawn as its mean. In
# float32 and, where pixels have scales of their own, in float64.
_LEAST_SPREAD = {torch.float32: 1e-6, torch.float64: 1e-12}
# Of the mean height above a declared bound: the least height taken where the bound of some parameters lies
# near the mean of all simulations, or above it.
_LEAST_WIDTH = 0.05
# Numbers of one channel by which its bend is chosen: all of 8,192 maps of 45 pixels a side. More take more
# memory, and hardly change which of a few widths is nearest to normal.
_BEND_NUMBERS = 2**24
WHITE = "white/scalars"  # no name of a variable


class FieldMap(torch.nn.Module):
    """All latent fields of a problem, on one grid, as one field y of C channels.

    A channel's bounds come from the simulator's `floor` and from the field's support. Where there are none
    and the field is skewed, its bound lies a little below the least value simulated.

    Raises:
        UnsupportedError: the support of a field is no interval.
    """

    def __init__(self, simulator: Simulator, fields: tuple[Field, ...], quadratic: Quadratic) -> None:
        super().__init__()
        self.quadratic = quadratic
        self.simulator = simulator
        self.fields = fields
        self.channels = sum(f.channels for f in fields)
        self.grid = fields[0].grid if fields else ()
        placed = [not f.stationary for f in fields for _ in range(f.channels)]
        self.somewhere = any(placed)
        self.dtype = torch.float64 if self.somewhere else torch.float32
        cells = self.grid if self.somewhere else (1,) * len(self.grid)
        self.register_buffer("placed", torch.tensor(placed, dtype=torch.bool), persistent=False)
        self.register_buffer("mean", torch.zeros(quadratic.count, self.channels, *cells, dtype=self.dtype))
        self.register_buffer("sd", torch.ones(self.channels, *cells, dtype=self.dtype))
        self.register_buffer("offset", torch.zeros(self.channels))
        self.register_buffer("unit", torch.ones(self.channels))
        self.register_buffer("centre", torch.zeros(self.channels))
        self.register_buffer("softness", torch.full((self.channels,), SOFTNESS[0]))
        self.register_buffer("bounded", torch.zeros(self.channels, dtype=torch.bool))
        self.register_buffer("depth", torch.ones(self.channels))
        self.register_buffer("sign", torch.ones(self.channels))
        self.register_buffer("top", torch.full((self.channels,), math.inf))
        self.declared: list[int] = []  # of fit: channels whose lower bound the simulator declares
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
        own = {WHITE, *(field.name for field in self.fields)}
        vectors = {name: value for name, value in vectors.items() if name not in own}
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

    def fit(self, parts: Parts) -> None:
        """Fit bounds, mean and scale to simulations: latents, each (m, *shape), and `WHITE` (m, P)."""
        self._fit_units(parts)
        self._fit_bounds(parts)
        self.fit_scale(parts)

    def fit_scale(self, parts: Parts) -> None:
        """Fit mean and scale, with the bounds that are known; see `fit`."""
        targets = [least_squares() for _ in range(self.channels)]
        shape = torch.Size()
        for part in parts:
            features = self.quadratic(part[WHITE]).double()
            cells = self._by_cell(self._soften(self._stack(part), part, part[WHITE]))
            shape = cells.shape[2:]
            for channel, target in enumerate(targets):  # one at a time: less memory
                target.add(features, cells[:, channel].double().flatten(1))
        for channel, target in enumerate(targets):
            self.mean[:, channel] = target.solution().unflatten(1, shape)
        self._fit_spread(parts, targets)

    def _fit_units(self, parts: Parts) -> None:
        """Offset and unit of each channel."""
        found = [Moments() for _ in range(self.channels)]
        for values in parts:
            for field, part in self._parts():
                for i in range(field.channels):
                    found[part.start + i].add(values[field.name][:, i])
        for channel, moments in enumerate(found):
            self.offset[channel], self.unit[channel] = moments.mean, spread(moments)

    def _fit_bounds(self, parts: Parts) -> None:
        """Centre, bounds and bend of each channel."""
        self.declared.clear()
        centre, depths = Mean(), [Mean() for _ in range(self.channels)]
        least, largest = torch.full((2, self.channels), math.inf).unbind()
        declared: Values = {}
        for values in parts:
            x = self._stack(values).float().transpose(0, 1).flatten(2)
            centre.add(x.flatten(1).mean(1), len(x[0]))
            least = torch.minimum(least, x.flatten(1).amin(1))
            largest = torch.minimum(largest, -x.flatten(1).amax(1))
            declared = self._declared(values)
            for field, part in self._parts():
                for channel in range(part.start, part.stop) if field.name in declared else ():
                    floor = declared[field.name][..., channel - part.start, None]
                    depths[channel].add((x[channel] - floor).mean(), len(x[0]))
        self.centre.copy_(centre.value)
        for field, part in self._parts():
            for channel in range(part.start, part.stop):
                if field.name in declared:
                    self.depth[channel] = depths[channel].value
                    self.top[channel] = self._supported(field, channel)[1]
                    self.bounded[channel] = bool(self.depth[channel] > 0)
                    if self.bounded[channel]:
                        self.declared.append(channel)
                else:
                    extremes = float(least[channel]), -float(largest[channel])
                    self._fit_bend(channel, field, self._sampled(parts, channel), extremes)

    def _sampled(self, parts: Parts, channel: int) -> Tensor:
        """One channel of the first simulations, as many as few numbers hold, (M, pixels)."""
        some = parts.up_to(max(1, _BEND_NUMBERS // math.prod(self.grid)))
        return torch.cat([self._stack(values)[:, channel].float().flatten(1) for values in some])

    def _fit_spread(self, parts: Parts, targets: list[LeastSquares]) -> None:
        """Scale of what is left of each channel about its mean."""
        found = [Moments(len(self.grid) if placed else 0) for placed in self.placed.tolist()]
        means = [target.solution() for target in targets]
        for part in parts:
            features = self.quadratic(part[WHITE]).double()
            t = self._soften(self._stack(part), part, part[WHITE])
            for channel, (moments, mean) in enumerate(zip(found, means, strict=True)):
                fitted = (features @ mean).unflatten(1, self.mean.shape[2:])
                moments.add(t[:, channel] - fitted)
        for channel, moments in enumerate(found):
            sd = moments.variance.sqrt().expand(self.sd.shape[1:])
            self.sd[channel] = torch.where(sd > _LEAST_SPREAD[self.dtype], sd, 0.0)

    def _by_cell(self, x: Tensor) -> Tensor:
        """Means (*, C, *cells) of a field over what shares a mean and a scale."""
        mean = x.mean(tuple(range(-len(self.grid), 0)), keepdim=True)
        return torch.where(self._spread(self.placed), x, mean) if self.somewhere else mean

    def _mean(self, u: Tensor) -> Tensor:
        """m at scalars (*, P), (*, C, *cells)."""
        return torch.tensordot(self.quadratic(u).to(self.dtype), self.mean, 1)

    def _supported(self, field: Field, channel: int) -> tuple[float, float]:
        """Bounds of a field's support in the units of a channel."""
        offset, unit = float(self.offset[channel]), float(self.unit[channel])
        low, high = self.supports[field.name]
        return (low - offset) / unit, (high - offset) / unit

    def _fit_bend(self, channel: int, field: Field, x: Tensor, extremes: tuple[float, float]) -> None:
        """Bounds of a channel and the width of their bend; x is (M, pixels), and lies between `extremes`."""
        bend = fit_bend(x, *self._supported(field, channel), extremes)
        if bend is None:
            return
        self.sign[channel], self.top[channel], self.bounded[channel] = bend.sign, bend.high, True
        self.centre[channel] *= bend.sign
        self.depth[channel] = self.centre[channel] - bend.low
        self.softness[channel] = bend.c / self.depth[channel]

    def log_stretch(self, values: Values, u: Tensor) -> Tensor:
        """ln dy / dx of each channel in units of its own, where it varies, summed over pixels, (*, C)."""
        low, c = self._bound(values, u)
        x = self._stack(values) * self._spread(self.sign)
        bent = stretch(x, low, c, self._spread(self.top)).log()
        ln = torch.where(self._spread(self.bounded), bent, 0.0) - torch.where(self.sd > 0, self.sd, 1.0).log()
        return (ln * self.vary()).flatten(-len(self.grid)).sum(-1)

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
