r"""Maps between the variables of a problem and the coordinates in which the network works.

Scalars: parameters go to white coordinates of the prior; other latent vectors through their
support's bijection, standardised. Fields: y = (t - m(u)) / s, where t softens a lower bound `low`
that may depend on the parameters,

    x = low + c softplus((t - low) / c),    c = softness (mean of x - low):

logarithmic near the bound, linear above. The bound is information on the parameters, so a field
is decoded with the parameters of its own draw. The softness is 1/2 where the simulator declares the
bound; elsewhere it is what leaves the least skewness, since a field may be far from normal above its
bound too. The mean m is quadratic in the white scalars u.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.distributions import biject_to

from sbikit import Field, Simulator, SupportsFloor, Values, Vector
from sbikit_transformer.polynomials import fit_least_squares, quadratic

_SKEWED = 0.3
_SPARE = 0.05
_SOFTNESS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)


def soften(x: Tensor, low: Tensor, c: Tensor) -> Tensor:
    """t of a field x that lies above `low`, logarithmic within `c` of it; all broadcast."""
    z = ((x - low) / c).clamp_min(1e-6)
    # log(expm1(z)) without overflow.
    return low + c * (z + torch.log(-torch.expm1(-z)))


def harden(t: Tensor, low: Tensor, c: Tensor) -> Tensor:
    """The inverse of `soften`."""
    return low + c * torch.nn.functional.softplus((t - low) / c)


def _skewness(x: Tensor) -> float:
    """Skewness over all values."""
    centred = x - x.mean()
    return float(centred.pow(3).mean() / centred.pow(2).mean().pow(1.5))


class ScalarMap(torch.nn.Module):
    """All latent vectors of a problem as one vector u of P white scalars."""

    def __init__(self, simulator: Simulator, vectors: tuple[Vector, ...]) -> None:
        super().__init__()
        self.prior = simulator.prior
        self.vectors = vectors
        self.size = sum(v.shape[0] for v in vectors)
        self.register_buffer("mean", torch.zeros(self.size))
        self.register_buffer("sd", torch.ones(self.size))

    mean: Tensor
    sd: Tensor

    def _real(self, values: Values) -> Tensor:
        parts = []
        for vector in self.vectors:
            value = values[vector.name]
            if vector.name == self.prior.name:
                parts.append(self.prior.to_white(value).clamp(-7.0, 7.0))
            else:
                parts.append(biject_to(vector.support).inv(value))
        return torch.cat(parts, dim=-1)

    def fit(self, values: Values) -> None:
        """Standardise what the prior does not whiten; values each (M, D)."""
        real = self._real(values)
        first = 0
        for vector in self.vectors:
            part = slice(first, first := first + vector.shape[0])
            if vector.name != self.prior.name:
                self.mean[part] = real[:, part].mean(0)
                self.sd[part] = real[:, part].std(0).clamp_min(1e-12)

    def encode(self, values: Values) -> Tensor:
        """(*, D) each -> (*, P)."""
        return (self._real(values) - self.mean) / self.sd

    def decode(self, u: Tensor) -> dict[str, Tensor]:
        """(*, P) -> (*, D) each."""
        real = u * self.sd + self.mean
        values = {}
        first = 0
        for vector in self.vectors:
            part = real[..., first : (first := first + vector.shape[0])]
            if vector.name == self.prior.name:
                values[vector.name] = self.prior.from_white(part)
            else:
                values[vector.name] = biject_to(vector.support)(part)
        return values


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
        self.register_buffer("mean", torch.zeros(features, self.channels))
        self.register_buffer("sd", torch.ones(self.channels))
        self.register_buffer("centre", torch.zeros(self.channels))
        self.register_buffer("softness", torch.full((self.channels,), _SOFTNESS[0]))
        self.register_buffer("bounded", torch.zeros(self.channels, dtype=torch.bool))
        self.register_buffer("depth", torch.ones(self.channels))

    mean: Tensor
    sd: Tensor
    centre: Tensor
    softness: Tensor
    bounded: Tensor
    depth: Tensor

    def _stack(self, values: Values) -> Tensor:
        return torch.cat([values[f.name] for f in self.fields], dim=-1 - len(self.grid))

    def _spread(self, per_channel: Tensor) -> Tensor:
        """(*, C) -> (*, C, 1, ...), to broadcast over the grid."""
        return per_channel[(..., *[None] * len(self.grid))]

    def _parts(self) -> Iterator[tuple[Field, slice]]:
        first = 0
        for field in self.fields:
            yield field, slice(first, first := first + field.channels)

    def _bound(self, vectors: Values, u: Tensor) -> tuple[Tensor, Tensor]:
        """Bound of each channel and width c of its softening, (*, C, 1, ...); void where there is none."""
        low = (self.centre - self.depth).expand(*u.shape[:-1], -1).clone()
        declared = self.simulator.floor(vectors) if isinstance(self.simulator, SupportsFloor) else {}
        for field, part in self._parts():
            if field.name in declared:
                low[..., part] = declared[field.name].to(low)
        return self._spread(low), self._spread(self.softness * (self.centre - low))

    def fit(self, values: Values, u: Tensor) -> None:
        """Fit bounds, mean and scale to M simulations; u is (M, P)."""
        x = self._stack(values).transpose(0, 1).flatten(2)
        self.centre.copy_(x.flatten(1).mean(1))
        declared = self.simulator.floor(values) if isinstance(self.simulator, SupportsFloor) else {}
        for field, part in self._parts():
            for channel in range(part.start, part.stop):
                if field.name in declared:
                    self.bounded[channel] = True
                else:
                    self._fit_depth(channel, field, x[channel])
        t = self._soften(self._stack(values), values, u)
        features = quadratic(u)
        self.mean.copy_(fit_least_squares(features.double(), t.flatten(2).mean(-1).double()))
        left = t - self._spread(features @ self.mean)
        self.sd.copy_(left.transpose(0, 1).flatten(1).std(1).clamp_min(1e-12))

    def _fit_depth(self, channel: int, field: Field, x: Tensor) -> None:
        """Bound and softness of a channel from its support, or from its minimum; x is (M, pixels)."""
        low = getattr(field.support, "lower_bound", None)
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
        return (t - self._spread(quadratic(u) @ self.mean)) / self._spread(self.sd)

    def decode(self, y: Tensor, vectors: Values, u: Tensor) -> dict[str, Tensor]:
        """y (*, C, *grid) with the draws' own vectors and scalars u (*, P) -> the latent fields."""
        t = y * self._spread(self.sd) + self._spread(quadratic(u) @ self.mean)
        low, c = self._bound(vectors, u)
        x = torch.where(self._spread(self.bounded), harden(t, low, c), t)
        parts = torch.split(x, [f.channels for f in self.fields], dim=-1 - len(self.grid))
        return {f.name: part for f, part in zip(self.fields, parts, strict=True)}
