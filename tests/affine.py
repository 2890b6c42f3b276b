"""A problem of every kind of variable, one of which is told in another unit and with an offset."""

from __future__ import annotations

from dataclasses import replace

import torch
from numpy.typing import NDArray
from torch import Tensor

from sbikit import Field, Prior, Simulator, Uniform, Values, Vector, normals

ROLES = ("theta", "hidden", "field", "x", "data")


class Affine(Simulator):
    """Parameter, latent vector, latent field, observed vector and observed field, all linear and normal.

    Args:
        role: the variable that is told as `scale * (value + offset)`.
        scale: its unit.
        offset: in about its own spreads.
        back: whether it is told in its old unit after all, with the rounding that the new one cost.
        stationary: whether the fields are declared so.
    """

    observed = ("x", "data")

    def __init__(
        self,
        role: str = "theta",
        scale: float = 1.0,
        offset: float = 0.0,
        *,
        back: bool = False,
        stationary: bool = True,
    ) -> None:
        super().__init__()
        self.role, self.scale, self.offset, self.back = role, scale, offset, back
        told = role == "theta" and not back
        low, high = (scale * (edge + offset) if told else edge for edge in (-1.0, 1.0))
        self.prior = Prior({"a": Uniform(low, high)})
        field = Field("field", (2, 4), stationary=stationary, periodic=stationary)
        data = replace(field, name="data", latex="d")
        self.outputs = (Vector("hidden", ("h1", "h2")), field, Vector("x", ("x",)), data)

    def tell(self, name: str, value: Tensor) -> Tensor:
        """A variable as it is told, float32, of its plain value, float64."""
        if name != self.role:
            return value.float()
        told = (self.scale * (value + self.offset)).float()
        return (told.double() / self.scale - self.offset).float() if self.back else told

    def plain(self, name: str, told: Tensor) -> Tensor:
        """The inverse of `tell`, float64."""
        return (
            told.double() / self.scale - self.offset if name == self.role and not self.back else told.double()
        )

    def simulate(self, parameters: Values, *, seeds: NDArray) -> dict[str, Tensor]:
        a = self.plain("theta", parameters["theta"])
        e = normals(seeds, (20,)).double()
        hidden = torch.cat([a + 0.3 * e[:, :1], a - e[:, 1:2]], 1)
        field = 0.5 * a + e[:, 2:10]
        made = {
            "hidden": hidden,
            "field": field.view(-1, 1, 2, 4),
            "x": hidden[:, :1] + 0.3 * e[:, 10:11],
            "data": (field + 0.5 * e[:, 12:]).view(-1, 1, 2, 4),
        }
        return {name: self.tell(name, value) for name, value in made.items()}
