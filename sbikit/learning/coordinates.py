"""Latent vectors as one vector of real, standardised coordinates.

The prior's parameters go to its white coordinates; any other latent vector goes through its support's
bijection to the real line and is standardised by constants of training simulations. All is computed in
float64, and what lies on the edge of a support, infinitely far on the real line, is moved to where it does no
harm after it is standardised: the unit of a vector changes none of its coordinates.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import suppress

import torch
from torch import Tensor, nn
from torch.distributions import Transform, biject_to

from sbikit.problem.errors import UnsupportedError
from sbikit.problem.prior import Prior
from sbikit.problem.supports import round_into, support_bounds
from sbikit.problem.variables import Values, Vector

# A float32 on the very edge of the support has an infinite white coordinate. Of a million prior draws none
# is expected beyond 5, and one in 10^12 beyond 7; a smaller value would move real draws.
_FARTHEST_WHITE = 7.0
# Standard deviations to which the edge of another vector's support is moved. A larger value lets a draw on
# the edge weigh more in a loss, a smaller one brings it among the draws inside.
_EDGE = 7.0
# Of the largest value: a smaller spread is the rounding of float64.
_ROUNDING = 1e-14


class Coordinates(nn.Module):
    """The map between latent vectors and their D coordinates, computed in float64.

    Args:
        prior: the simulator's prior.
        vectors: the latent vectors.

    Raises:
        UnsupportedError: no map from a vector's support to the real line is known.
    """

    mean: Tensor
    sd: Tensor

    def __init__(self, prior: Prior, vectors: tuple[Vector, ...]) -> None:
        super().__init__()
        self.size = sum(len(v.labels) for v in vectors)
        self._prior, self._vectors = prior, vectors
        self._bijections = {v.name: _bijection(v) for v in vectors if v.name != prior.name}
        self.register_buffer("mean", torch.zeros(self.size, dtype=torch.float64))
        self.register_buffer("sd", torch.ones(self.size, dtype=torch.float64))

    @property
    def bounded(self) -> Tensor:
        """Which of the D scalars are the prior's, have two bounds, and depend on no other, (D,)."""
        found = torch.zeros(self.size, dtype=torch.bool)
        for vector, part in self._parts():
            if vector.name == self._prior.name:
                laws, correlation = self._prior.laws.values(), self._prior.correlation
                found[part] = torch.tensor([math.isfinite(law.high - law.low) for law in laws])
                if correlation is not None:  # a coordinate is then that of several parameters
                    found[part] &= (correlation != 0).sum(0) == 1
        return found

    def fit(self, latents: Values) -> None:
        """Set the scales of what the prior does not whiten, from training draws (M, D_i)."""
        self.fit_parts((latents,))

    def fit_parts(self, parts: Iterable[Values]) -> None:
        """The same from draws that come in parts, each (m, D_i)."""
        found = {name: _InnerScale() for name in self._bijections}
        for latents in parts:
            for vector, _ in self._parts():
                if vector.name in found:
                    value = latents[vector.name].double()
                    real = self._to_real(vector, value)
                    found[vector.name].add(real, ~_on_edge(vector, value) & torch.isfinite(real))
        for vector, part in self._parts():
            if vector.name in found:
                self.mean[part], self.sd[part] = found[vector.name].mean_and_sd()

    def encode(self, latents: Values) -> Tensor:
        """Latent vectors, each (*batch, D_i), to coordinates (*batch, D), float32."""
        columns = []
        for vector, part in self._parts():
            columns.append(self._standardised(vector, latents[vector.name].double(), part))
        return torch.cat(columns, -1).float()

    def _standardised(self, vector: Vector, value: Tensor, part: slice) -> Tensor:
        """Coordinates of one vector (*batch, D_i), float64."""
        if vector.name == self._prior.name:
            return self._prior.to_white(value).clamp(-_FARTHEST_WHITE, _FARTHEST_WHITE)
        sd = torch.where(self.sd[part] > 0, self.sd[part], 1.0)
        white = (self._to_real(vector, value) - self.mean[part]) / sd
        return torch.where(_on_edge(vector, value), white.clamp(-_EDGE, _EDGE), white)

    def decode(self, coordinates: Tensor) -> dict[str, Tensor]:
        """The inverse of `encode`, float32."""
        real = coordinates.double() * self.sd + self.mean
        values = {}
        for vector, part in self._parts():
            bijection = self._bijections.get(vector.name)
            if bijection is None:
                values[vector.name] = self._prior.rounded(self._prior.from_white(real[..., part]))
            else:
                values[vector.name] = _inside(vector, bijection(real[..., part]))
        return values

    def _to_real(self, vector: Vector, value: Tensor) -> Tensor:
        """A vector that the prior does not whiten on the real line, infinite on the edge of its support."""
        real: Tensor = self._bijections[vector.name].inv(
            value.clamp(*(bound.to(value.device) for bound in _bounds(vector)))
        )
        return real

    def _parts(self) -> Iterator[tuple[Vector, slice]]:
        first = 0
        for vector in self._vectors:
            yield vector, slice(first, first := first + len(vector.labels))


def _inside(vector: Vector, value: Tensor) -> Tensor:
    """In float32, which may round out of an interval."""
    try:
        return round_into(vector.name, vector.support, value)
    except UnsupportedError:
        return value.float()


def _on_edge(vector: Vector, value: Tensor) -> Tensor:
    """Where a value, float64, lies on a bound of its support or, being rounded to float32, beyond."""
    low, high = (bound.float().double() for bound in _bounds(vector))
    return (value <= low.to(value.device)) | (value >= high.to(value.device))


def _bounds(vector: Vector) -> tuple[Tensor, Tensor]:
    """The least and the largest value of the support, infinite where it has none."""
    low: float | Tensor
    high: float | Tensor
    try:
        low, high = support_bounds(vector.name, vector.support)
    except UnsupportedError:  # bounds of each scalar's own
        low = getattr(vector.support, "lower_bound", -math.inf)
        high = getattr(vector.support, "upper_bound", math.inf)
    return torch.as_tensor(low, dtype=torch.float64), torch.as_tensor(high, dtype=torch.float64)


class _InnerScale:
    """Mean and sd of draws inside the support that come in parts; merged as in `moments`."""

    def __init__(self) -> None:
        self._count = torch.zeros((), dtype=torch.long)
        self._mean = self._square = torch.zeros((), dtype=torch.float64)

    def add(self, real: Tensor, inside: Tensor) -> None:
        """Draws (m, D), float64, and which of them lie inside."""
        count = inside.sum(0)
        mean = torch.where(inside, real, 0.0).sum(0) / count.clamp_min(1)
        square = torch.where(inside, (real - mean).square(), 0.0).sum(0)
        if self._mean.ndim:
            total = (self._count + count).clamp_min(1).double()
            apart = mean - self._mean
            square = self._square + square + apart.square() * (self._count * count / total)
            mean = self._mean + apart * (count / total)
            count = self._count + count
        self._count, self._mean, self._square = count, mean, square

    def mean_and_sd(self) -> tuple[Tensor, Tensor]:
        """Each (D,); an sd of 0 for what never varies."""
        sd = (self._square / (self._count - 1).clamp_min(1)).sqrt()
        return self._mean, torch.where(sd > _ROUNDING * self._mean.abs(), sd, 0.0)


def _bijection(vector: Vector) -> Transform:
    with suppress(NotImplementedError):
        bijection = biject_to(vector.support)
        if tuple(bijection.inverse_shape(vector.shape)) == vector.shape:
            return bijection
    raise UnsupportedError(
        f"No map from the support of {vector.name!r} to the real line is known.",
        where=f"Vector({vector.name!r}).support",
        expected="a constraint that torch.distributions.biject_to maps to as many real numbers",
        got=repr(vector.support),
        fix="declare another support",
    )
