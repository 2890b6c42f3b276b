"""Latent vectors as one vector of real, standardised coordinates.

The prior's parameters go to its white coordinates; any other latent vector goes through its support's
bijection to the real line and is standardised by constants of training simulations.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.distributions import Transform, biject_to

from sbikit import Prior, Spec, UnsupportedError, Values, Vector

# A float32 on the very edge of the support has an infinite white coordinate.
_FARTHEST = 7.0


class Coordinates(torch.nn.Module):
    """The map between latent vectors and their D coordinates.

    Args:
        prior: the simulator's prior.
        spec: the problem; its latents must be vectors.
    """

    mean: Tensor
    sd: Tensor

    def __init__(self, prior: Prior, spec: Spec) -> None:
        super().__init__()
        self.size = sum(len(v.labels) for v in spec.vectors)
        self._prior = prior
        self._vectors = spec.vectors
        self._bijections = {v.name: _bijection(v) for v in spec.vectors if v.name != prior.name}
        self.register_buffer("mean", torch.zeros(self.size))
        self.register_buffer("sd", torch.ones(self.size))

    def fit(self, latents: Values) -> None:
        """Set the scales of what the prior does not whiten, from training draws (M, D)."""
        real = self._to_real(latents)
        for vector, part in self._parts():
            if vector.name in self._bijections:
                self.mean[part] = real[:, part].mean(0)
                self.sd[part] = real[:, part].std(0).clamp_min(1e-12)

    def encode(self, latents: Values) -> Tensor:
        """Latent vectors, each (*batch, D_i), to coordinates (*batch, D)."""
        return (self._to_real(latents) - self.mean) / self.sd

    def decode(self, coordinates: Tensor) -> dict[str, Tensor]:
        """The inverse of `encode`, computed in float64, returned in float32."""
        real = coordinates.double() * self.sd + self.mean
        values = {}
        for vector, part in self._parts():
            bijection = self._bijections.get(vector.name)
            from_real = self._prior.from_white if bijection is None else bijection
            values[vector.name] = from_real(real[..., part]).float()
        return values

    def _to_real(self, latents: Values) -> Tensor:
        columns = []
        for vector in self._vectors:
            bijection = self._bijections.get(vector.name)
            to_real = self._prior.to_white if bijection is None else bijection.inv
            columns.append(to_real(latents[vector.name].double()).clamp(-_FARTHEST, _FARTHEST))
        return torch.cat(columns, -1).float()

    def _parts(self) -> Iterator[tuple[Vector, slice]]:
        first = 0
        for vector in self._vectors:
            part = slice(first, first + len(vector.labels))
            first = part.stop
            yield vector, part


def _bijection(vector: Vector) -> Transform:
    try:
        return biject_to(vector.support)
    except NotImplementedError as error:
        raise UnsupportedError(
            f"No map from the support of {vector.name!r} to the real line is known.",
            where=f"Vector({vector.name!r}).support",
            expected="a constraint that torch.distributions.biject_to knows",
            got=repr(vector.support),
            fix="declare another support, or infer it with --estimator diffusion-transformer",
        ) from error
