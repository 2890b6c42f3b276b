"""Laws of single parameters, and their maps to and from white coordinates.

White coordinates z are standard normal under the law: x = F^-1(Phi(z)) for a distribution function F. The
maps run in float64, since Phi saturates in float32 beyond |z| = 5.5.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.special import ndtr, ndtri

from sbikit.problem.errors import SpecError

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


def refuse(law: Law, message: str, fix: str) -> SpecError:
    return SpecError(message, where=repr(law), fix=fix)


@dataclass(frozen=True)
class Uniform(Law):
    """Uniform between `low` and `high`."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise refuse(self, "A uniform law needs two finite bounds.", "give low < high")

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
            raise refuse(self, "A normal law needs a positive standard deviation.", "give sd > 0")

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
            raise refuse(self, "A truncated normal law needs sd > 0 and low < high.", "correct them")

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
            raise refuse(self, "A log-normal law needs median > 0 and sigma > 0.", "correct them")

    def from_white(self, z: Tensor) -> Tensor:
        return self.median * torch.exp(self.sigma * z)

    def to_white(self, x: Tensor) -> Tensor:
        return (torch.log(x) - math.log(self.median)) / self.sigma

    def log_density(self, x: Tensor) -> Tensor:
        return -0.5 * self.to_white(x) ** 2 - _HALF_LOG_2PI - math.log(self.sigma) - torch.log(x)
