r"""The map between latent fields and the coordinates in which the network works.

It is y = (t - m(u)) / s, where t softens a lower bound `low` that may depend on the parameters,

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

from sbikit import Field, Simulator, SupportsFloor, Values, copied, supports
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
# Keeps a field that never varies finite when it is divided by its spread.
_LEAST_SPREAD = 1e-12


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

    def _declared(self, vectors: Values) -> Values:
        """The bounds that the simulator declares, (*, C) each."""
        return self.simulator.floor(copied(vectors)) if supports(self.simulator, SupportsFloor) else {}

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
        x = self._stack(values).transpose(0, 1).flatten(2)
        self.centre.copy_(x.flatten(1).mean(1))
        declared = self._declared(values)
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
        self.sd.copy_(left.transpose(0, 1).flatten(1).std(1).clamp_min(_LEAST_SPREAD))

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
