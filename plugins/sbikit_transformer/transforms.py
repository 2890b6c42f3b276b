r"""The map between latent fields and the coordinates in which the network works.

It is y = (t - m(u)) / s, where t softens a lower bound `low` that may depend on the parameters,

    x = low + c softplus((t - low) / c),    c = softness (mean of x - low):

logarithmic near the bound, linear above. The bound is information on the parameters, so a field
is decoded with the parameters of its own draw. The softness is 1/2 where the simulator declares the
bound; elsewhere it is what leaves the least skewness, since a field may be far from normal above its
bound too. The mean m is quadratic in the white scalars u. Mean and scale s are one number a channel where the
field is stationary, else one a pixel. All of it is done in units of each channel's own mean and spread.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from sbikit import Field, Simulator, SupportsFloor, Values, supports
from sbikit.learning import mean_and_spread
from sbikit_transformer.polynomials import fit_least_squares, quadratic

# Skewness from which a field without a declared bound is given one. A smaller value bends fields that are
# skewed by chance, a larger one leaves more to the network that the Gaussian guide could do.
_SKEWED = 0.3
# How far below the least value simulated that bound lies, in units of the median's distance from it. A
# larger value straightens less, a smaller one leaves draws less room below what was simulated.
_SPARE = 0.05
# The first, logarithmic up to half the mean, is for a bound that the simulator declares. Powers of two up
# to a field that is logarithmic throughout: finer steps would leave less skewness and take as many passes
# more.
_SOFTNESS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
# Least height above the bound, in units of c: a float32 on it would go to minus infinity. It is softened to
# -14 c, which a larger value would bring nearer.
_LEAST_HEIGHT = 1e-6
# Least scale, in units of the channel's spread: what varies less, by rounding, is drawn as its mean. In
# float32 and, where pixels have scales of their own, in float64.
_LEAST_SPREAD = {torch.float32: 1e-6, torch.float64: 1e-12}


def soften(x: Tensor, low: Tensor, c: Tensor) -> Tensor:
    """t of a field x that lies above `low`, logarithmic within `c` of it; all broadcast."""
    z = ((x - low) / c).clamp_min(_LEAST_HEIGHT)
    # log(expm1(z)) without overflow.
    return low + c * (z + torch.log(-torch.expm1(-z)))


def harden(t: Tensor, low: Tensor, c: Tensor) -> Tensor:
    """The inverse of `soften`."""
    return low + c * torch.nn.functional.softplus((t - low) / c)


def _skewness(x: Tensor) -> float:
    """Skewness over all values."""
    centred = x - x.mean()
    return float(centred.pow(3).mean() / centred.pow(2).mean().pow(1.5))


class FieldMap(torch.nn.Module):
    """All latent fields of a problem, on one grid, as one field y of C channels.

    A channel's bound comes from the simulator's `floor`, else from a support bounded below, else,
    where the field is skewed, a little below the least value simulated; else there is none.
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
        self.register_buffer("softness", torch.full((self.channels,), _SOFTNESS[0]))
        self.register_buffer("bounded", torch.zeros(self.channels, dtype=torch.bool))
        self.register_buffer("depth", torch.ones(self.channels))

    mean: Tensor
    sd: Tensor
    placed: Tensor
    offset: Tensor
    unit: Tensor
    centre: Tensor
    softness: Tensor
    bounded: Tensor
    depth: Tensor

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
        floor = self.simulator.floor(vectors) if supports(self.simulator, SupportsFloor) else {}
        return {
            field.name: (floor[field.name].to(self.dtype) - self.offset[part]) / self.unit[part]
            for field, part in self._parts()
            if field.name in floor
        }

    def _bound(self, vectors: Values, u: Tensor) -> tuple[Tensor, Tensor]:
        """Bound of each channel and width c of its softening, (*, C, 1, ...); void where there is none."""
        low = (self.centre - self.depth).expand(*u.shape[:-1], -1).clone()
        declared = self._declared(vectors)
        for field, part in self._parts():
            if field.name in declared:
                low[..., part] = declared[field.name].to(low)
        return self._spread(low), self._spread(self.softness * (self.centre - low))

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
                    self.bounded[channel] = True
                else:
                    self._fit_depth(channel, field, x[channel])
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

    def _fit_depth(self, channel: int, field: Field, x: Tensor) -> None:
        """Bound and softness of a channel from its support, or from its minimum; x is (M, pixels)."""
        low = getattr(field.support, "lower_bound", None)
        if low is not None:
            low = (float(low) - float(self.offset[channel])) / float(self.unit[channel])
        if low is None:
            if _skewness(x) < _SKEWED:
                return
            least = float(x.min())
            low = least - _SPARE * (float(x.median()) - least)
        self.depth[channel] = self.centre[channel] - float(low)
        self.bounded[channel] = True
        low = torch.tensor(float(low))
        skewness = [abs(_skewness(soften(x, low, k * self.depth[channel]))) for k in _SOFTNESS]
        self.softness[channel] = _SOFTNESS[skewness.index(min(skewness))]

    def _soften(self, x: Tensor, vectors: Values, u: Tensor) -> Tensor:
        low, c = self._bound(vectors, u)
        return torch.where(self._spread(self.bounded), soften(x, low, c), x)

    def encode(self, values: Values, u: Tensor) -> Tensor:
        """Latent fields and vectors, u (*, P) -> y (*, C, *grid)."""
        t = self._soften(self._stack(values), values, u)
        return ((t - self._mean(u)) / torch.where(self.sd > 0, self.sd, 1.0)).float()

    def decode(self, y: Tensor, vectors: Values, u: Tensor) -> dict[str, Tensor]:
        """y (*, C, *grid) with the draws' own vectors and scalars u (*, P) -> the latent fields."""
        t = y.to(self.dtype) * self.sd + self._mean(u)
        low, c = self._bound(vectors, u)
        x = torch.where(self._spread(self.bounded), harden(t, low, c), t)
        x = (x * self._spread(self.unit) + self._spread(self.offset)).float()
        parts = torch.split(x, [f.channels for f in self.fields], dim=-1 - len(self.grid))
        return {f.name: part for f, part in zip(self.fields, parts, strict=True)}
