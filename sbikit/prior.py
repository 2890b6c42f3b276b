"""The prior: one named law a parameter, and the map to and from white coordinates.

White coordinates z are standard normal under the prior: x = F^-1(Phi(z)) for a law with
distribution function F. The maps run in float64, since Phi saturates in float32 beyond |z| = 5.5.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.special import ndtr, ndtri

from sbikit.errors import SpecError
from sbikit.seeds import uniforms
from sbikit.variables import Vector

_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


class Law(ABC):
    """The distribution of one scalar. All tensors are float64, of any shape."""

    low: float
    high: float

    @abstractmethod
    def from_white(self, z: Tensor) -> Tensor:
        """The value at white coordinate z."""

    @abstractmethod
    def to_white(self, x: Tensor) -> Tensor:
        """The white coordinate of x; infinite on the edge of the support."""

    @abstractmethod
    def log_density(self, x: Tensor) -> Tensor:
        """Log density at x inside the support."""


def _refuse(law: Law, message: str, fix: str) -> SpecError:
    return SpecError(message, where=repr(law), fix=fix)


@dataclass(frozen=True)
class Uniform(Law):
    """Uniform between `low` and `high`."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise _refuse(self, "A uniform law needs two finite bounds.", "give low < high")

    def from_white(self, z: Tensor) -> Tensor:
        return self.low + (self.high - self.low) * ndtr(z)

    def to_white(self, x: Tensor) -> Tensor:
        return ndtri((x - self.low) / (self.high - self.low))

    def log_density(self, x: Tensor) -> Tensor:
        return torch.full_like(x, -math.log(self.high - self.low))


@dataclass(frozen=True)
class Normal(Law):
    """Normal with `mean` and standard deviation `sd`."""

    mean: float
    sd: float

    low = -math.inf
    high = math.inf

    def __post_init__(self) -> None:
        if not self.sd > 0:
            raise _refuse(self, "A normal law needs a positive standard deviation.", "give sd > 0")

    def from_white(self, z: Tensor) -> Tensor:
        return self.mean + self.sd * z

    def to_white(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.sd

    def log_density(self, x: Tensor) -> Tensor:
        return -0.5 * self.to_white(x) ** 2 - _HALF_LOG_2PI - math.log(self.sd)


@dataclass(frozen=True)
class TruncatedNormal(Law):
    """Normal with `mean` and `sd` (those of the parent), cut to `low`..`high`."""

    mean: float
    sd: float
    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self) -> None:
        if not (self.sd > 0 and self.low < self.high):
            raise _refuse(self, "A truncated normal law needs sd > 0 and low < high.", "correct them")

    def _edges(self) -> tuple[float, float]:
        edges = torch.tensor([self.low, self.high], dtype=torch.float64)
        low, high = ndtr((edges - self.mean) / self.sd).tolist()
        return low, high

    def from_white(self, z: Tensor) -> Tensor:
        low, high = self._edges()
        inside = self.mean + self.sd * ndtri(low + (high - low) * ndtr(z))
        return inside.clamp(self.low, self.high)  # rounding leaves it far from the middle

    def to_white(self, x: Tensor) -> Tensor:
        low, high = self._edges()
        return ndtri((ndtr((x - self.mean) / self.sd) - low) / (high - low))

    def log_density(self, x: Tensor) -> Tensor:
        low, high = self._edges()
        parent = -0.5 * ((x - self.mean) / self.sd) ** 2 - _HALF_LOG_2PI - math.log(self.sd)
        return parent - math.log(high - low)


@dataclass(frozen=True)
class LogNormal(Law):
    """exp of a normal with mean log(`median`) and standard deviation `sigma`."""

    median: float
    sigma: float

    low = 0.0
    high = math.inf

    def __post_init__(self) -> None:
        if not (self.median > 0 and self.sigma > 0):
            raise _refuse(self, "A log-normal law needs median > 0 and sigma > 0.", "correct them")

    def from_white(self, z: Tensor) -> Tensor:
        return self.median * torch.exp(self.sigma * z)

    def to_white(self, x: Tensor) -> Tensor:
        return (torch.log(x) - math.log(self.median)) / self.sigma

    def log_density(self, x: Tensor) -> Tensor:
        return -0.5 * self.to_white(x) ** 2 - _HALF_LOG_2PI - math.log(self.sigma) - torch.log(x)


class Prior:
    """Independent laws of named parameters.

    Args:
        laws: parameter -> law, in the order of the parameter vector.
        name: the name of the vector.
        latex: parameter -> LaTeX without `$`; the plain name where left out.
        units: parameter -> unit; dimensionless where left out.
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
        return torch.stack([law.from_white(column) for law, column in columns], dim=-1).to(z.dtype)

    def to_white(self, theta: Tensor) -> Tensor:
        """White coordinates of parameters, both (..., D); infinite outside the support."""
        columns = zip(self.laws.values(), theta.double().unbind(-1), strict=True)
        return torch.stack([law.to_white(column) for law, column in columns], dim=-1).to(theta.dtype)

    def log_prob(self, theta: Tensor) -> Tensor:
        """Log prior density, (..., D) -> (...), float64; minus infinity outside the support."""
        total = torch.zeros(theta.shape[:-1], dtype=torch.float64, device=theta.device)
        for law, column in zip(self.laws.values(), theta.double().unbind(-1), strict=True):
            inside = (column >= law.low) & (column <= law.high)
            safe = torch.where(inside, column, law.from_white(torch.zeros_like(column)))
            total = total + torch.where(inside, law.log_density(safe), -math.inf)
        return total

    def sample(self, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        """One parameter vector a seed, `{name: (len(seeds), D)}` float32; row i depends on seed i alone."""
        u = torch.from_numpy(uniforms(seeds, len(self.laws)))
        return {self.name: self.from_white(ndtri(u)).float()}


__all__ = ["Law", "LogNormal", "Normal", "Prior", "TruncatedNormal", "Uniform"]
