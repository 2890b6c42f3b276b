"""Latent vectors as one vector of real, standardised coordinates.

The prior's parameters go to its white coordinates; any other latent vector goes through its support's
bijection to the real line and is standardised by constants of training simulations.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.distributions import Transform, biject_to

from sbikit.problem.errors import UnsupportedError
from sbikit.problem.prior import Prior
from sbikit.problem.supports import round_into
from sbikit.problem.variables import Values, Vector

# A float32 on the very edge of the support has an infinite white coordinate. Of a million prior draws none
# is expected beyond 5, and one in 10^12 beyond 7; a smaller value would move real draws.
_FARTHEST_WHITE = 7.0
# Of the largest value: a smaller spread is the rounding of float32, and the scalar is drawn as its mean.
_ROUNDING = 1e-7


class Coordinates(nn.Module):
    """The map between latent vectors and their D coordinates, computed in float64.

    Args:
        prior: the simulator's prior.
        vectors: the latent vectors.
        farthest: largest size of a real coordinate of a vector that the prior does not whiten, before it is
            standardised; what lies beyond is moved there.

    Raises:
        UnsupportedError: no map from a vector's support to the real line is known.
    """

    mean: Tensor
    sd: Tensor

    def __init__(self, prior: Prior, vectors: tuple[Vector, ...], *, farthest: float = math.inf) -> None:
        super().__init__()
        self.size = sum(len(v.labels) for v in vectors)
        self._prior, self._vectors, self._farthest = prior, vectors, farthest
        self._bijections = {v.name: _bijection(v) for v in vectors if v.name != prior.name}
        self.register_buffer("mean", torch.zeros(self.size))
        self.register_buffer("sd", torch.ones(self.size))

    def fit(self, latents: Values) -> None:
        """Set the scales of what the prior does not whiten, from training draws (M, D_i)."""
        real = self._to_real(latents)
        for vector, part in self._parts():
            if vector.name in self._bijections:
                self.mean[part] = real[:, part].mean(0)
                sd, size = real[:, part].std(0), real[:, part].abs().amax(0)
                self.sd[part] = torch.where(sd > _ROUNDING * size, sd, 0.0)

    def encode(self, latents: Values) -> Tensor:
        """Latent vectors, each (*batch, D_i), to coordinates (*batch, D), float32."""
        return (self._to_real(latents) - self.mean) / torch.where(self.sd > 0, self.sd, 1.0)

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

    def _to_real(self, latents: Values) -> Tensor:
        columns = []
        for vector in self._vectors:
            bijection = self._bijections.get(vector.name)
            to_real = self._prior.to_white if bijection is None else bijection.inv
            farthest = _FARTHEST_WHITE if bijection is None else self._farthest
            columns.append(to_real(latents[vector.name].double()).clamp(-farthest, farthest))
        return torch.cat(columns, -1).float()

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


def _bijection(vector: Vector) -> Transform:
    try:
        return biject_to(vector.support)
    except NotImplementedError as error:
        raise UnsupportedError(
            f"No map from the support of {vector.name!r} to the real line is known.",
            where=f"Vector({vector.name!r}).support",
            expected="a constraint that torch.distributions.biject_to knows",
            got=repr(vector.support),
            fix="declare another support",
        ) from error
