"""The prior: one named law a parameter, and the map to and from white coordinates."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.special import ndtri

from sbikit.problem.laws import Law
from sbikit.problem.precision import check_law, round_inside
from sbikit.problem.seeds import uniforms
from sbikit.problem.variables import Vector


class Prior:
    """Independent laws of named parameters.

    Args:
        laws: parameter -> law, in the order of the parameter vector.
        name: the name of the vector.
        latex: parameter -> LaTeX without `$`; the plain name where left out.
        units: parameter -> unit; dimensionless where left out.

    Raises:
        SpecError: float32, in which values travel, does not resolve a law.
    """

    def __init__(
        self,
        laws: Mapping[str, Law],
        *,
        name: str = "theta",
        latex: Mapping[str, str] | None = None,
        units: Mapping[str, str] | None = None,
    ) -> None:
        self.laws = dict(laws)
        for label, law in self.laws.items():
            check_law(label, law)
        labels = tuple(self.laws)
        self.variable = Vector(
            name,
            labels,
            units=tuple((units or {}).get(label, "") for label in labels),
            latex=tuple((latex or {}).get(label, label) for label in labels),
        )

    @property
    def name(self) -> str:
        """Name of the parameter vector."""
        return self.variable.name

    def from_white(self, z: Tensor) -> Tensor:
        """Parameters at white coordinates z, both (..., D); the result has the dtype of z."""
        columns = zip(self.laws.values(), z.double().unbind(-1), strict=True)
        theta = torch.stack([law.from_white(column) for law, column in columns], dim=-1)
        return theta if z.dtype == torch.float64 else self.rounded(theta).to(z.dtype)

    def rounded(self, theta: Tensor) -> Tensor:
        """Parameters (..., D) in float32, rounded to numbers that do not lie beyond the laws' bounds."""
        columns = zip(self.laws.values(), theta.unbind(-1), strict=True)
        return torch.stack([round_inside(column, law.low, law.high) for law, column in columns], dim=-1)

    def to_white(self, theta: Tensor) -> Tensor:
        """White coordinates of parameters, both (..., D); infinite outside the support."""
        columns = zip(self.laws.values(), theta.double().unbind(-1), strict=True)
        return torch.stack([law.to_white(column) for law, column in columns], dim=-1).to(theta.dtype)

    def log_prob(self, theta: Tensor) -> Tensor:
        """Log prior density, (..., D) -> (...), float64; minus infinity outside the support."""
        total = torch.zeros(theta.shape[:-1], dtype=torch.float64, device=theta.device)
        for law, given in zip(self.laws.values(), theta.unbind(-1), strict=True):
            # A bound and a value are compared in the value's precision: 0.3 in float32 is more than 0.3.
            low, high = torch.tensor([law.low, law.high], dtype=given.dtype).tolist()
            inside = (given >= low) & (given <= high)
            column = given.double().clamp(law.low, law.high)
            safe = torch.where(inside, column, law.from_white(torch.zeros_like(column)))
            total = total + torch.where(inside, law.log_density(safe), -math.inf)
        return total

    def sample(self, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        """One parameter vector a seed, `{name: (len(seeds), D)}` float32; row i depends on seed i alone."""
        u = torch.from_numpy(uniforms(seeds, len(self.laws)))
        return {self.name: self.rounded(self.from_white(ndtri(u)))}
