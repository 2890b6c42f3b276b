"""Laws of single parameters, and their maps to and from white coordinates.

White coordinates z are standard normal under the law: x = F^-1(Phi(z)) for a distribution function F. The
maps run in float64, since Phi saturates in float32 beyond |z| = 5.5.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from hashlib import blake2b

import torch
from torch import Tensor
from torch.special import ndtri

from sbikit.problem.errors import SpecError
from sbikit.problem.truncated import Point, Window, cdf

# White coordinates of the quantiles that describe a law, and their number: laws that agree at all of them to
# ten digits make the same coordinates, for what a fit can tell.
_DESCRIBED, _QUANTILES = 5.0, 129
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


def describe_law(law: Law) -> str:
    """A text that tells a law from every other, in any process.

    That is the fields of a dataclass of plain values, and what any other law does: its quantiles.
    """
    name = type(law).__name__
    if is_dataclass(law):
        values = {field.name: getattr(law, field.name) for field in fields(law)}
        if all(isinstance(value, float | int | str) for value in values.values()):
            plain = {k: value if isinstance(value, str) else float(value) for k, value in values.items()}
            return f"{name}({', '.join(f'{k}={value!r}' for k, value in plain.items())})"
    white = torch.linspace(-_DESCRIBED, _DESCRIBED, _QUANTILES, dtype=torch.float64)
    found = law.from_white(white).tolist()
    digest = blake2b(" ".join(f"{x:.9e}" for x in found).encode(), digest_size=8).hexdigest()
    low, middle, high = found[0], found[_QUANTILES // 2], found[-1]
    return f"{name}({low:.6g} to {high:.6g}, median {middle:.6g}, quantiles {digest})"


def refuse(law: Law, message: str, fix: str) -> SpecError:
    return SpecError(message, where=repr(law), fix=fix)


@dataclass(frozen=True)
class Uniform(Law):
    """Uniform between `low` and `high`."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (self.low < self.high and math.isfinite(self.high - self.low)):
            raise refuse(self, "A uniform law needs two finite bounds.", "give low < high")

    def from_white(self, z: Tensor) -> Tensor:
        width = self.high - self.low
        return torch.where(z < 0, self.low + width * cdf(z), self.high - width * cdf(-z))

    def to_white(self, x: Tensor) -> Tensor:
        below, above = (x - self.low).clamp_min(0.0), (self.high - x).clamp_min(0.0)
        lower = below < above
        z = ndtri(torch.where(lower, below, above) / (self.high - self.low))
        return torch.where(lower, z, -z)

    def log_density(self, x: Tensor) -> Tensor:
        return torch.full_like(x, -math.log(self.high - self.low))


@dataclass(frozen=True)
class LogUniform(Law):
    """Uniform in the logarithm between `low` and `high`, both positive: the law of a scale."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (0 < self.low < self.high < math.inf):
            raise refuse(self, "A log-uniform law needs two positive bounds.", "give 0 < low < high")

    @cached_property
    def _width(self) -> float:
        ends = torch.tensor([self.low, self.high], dtype=torch.float64)
        return float(_log_ratio(ends[0], ends[1]))

    def from_white(self, z: Tensor) -> Tensor:
        above = self.low * torch.exp(self._width * cdf(z))
        below = self.high * torch.exp(-self._width * cdf(-z))
        return torch.where(z < 0, above, below).clamp(self.low, self.high)

    def to_white(self, x: Tensor) -> Tensor:
        x = x.clamp(self.low, self.high)
        below = _log_ratio(torch.full_like(x, self.low), x)
        above = _log_ratio(x, torch.full_like(x, self.high))
        lower = below < above
        z = ndtri(torch.where(lower, below, above) / self._width)
        return torch.where(lower, z, -z)

    def log_density(self, x: Tensor) -> Tensor:
        return -torch.log(x) - math.log(self._width)


@dataclass(frozen=True)
class Normal(Law):
    """Normal with `mean` and standard deviation `sd`."""

    mean: float
    sd: float

    low = -math.inf
    high = math.inf

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and 0 < self.sd < math.inf):
            raise refuse(self, "A normal law needs a finite mean and a positive sd.", "give sd > 0")

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
        if not (math.isfinite(self.mean) and 0 < self.sd < math.inf and self.low < self.high):
            raise refuse(self, "A truncated normal law needs a mean, sd > 0 and low < high.", "correct them")
        if self.low == math.inf or self.high == -math.inf:
            raise refuse(self, "A truncated normal law needs room between its bounds.", "correct them")

    @cached_property
    def _side(self) -> float:
        """1, or -1 where the window is mirrored: more of it lies below the mean than above."""
        edges = (self.low - self.mean) / self.sd, (self.high - self.mean) / self.sd
        return -1.0 if edges[0] < -edges[1] else 1.0

    @cached_property
    def _window(self) -> Window:
        near = self.low if self._side > 0 else self.high
        return Window(self._side * (near - self.mean) / self.sd, (self.high - self.low) / self.sd)

    def _point(self, x: Tensor) -> Point:
        """Points of the window, none beyond its edges."""
        low, high = (x - self.low).clamp_min(0.0) / self.sd, (self.high - x).clamp_min(0.0) / self.sd
        d, e = (low, high) if self._side > 0 else (high, low)
        return Point(self._side * (x - self.mean) / self.sd, d, e)

    def from_white(self, z: Tensor) -> Tensor:
        with torch.no_grad():
            at = self._window.from_white(self._side * z)
            low, high = (at.d, at.e) if self._side > 0 else (at.e, at.d)
            x = self.mean + self._side * self.sd * at.y
            size = abs(self.mean) + self.sd * at.y.abs()
            # From an edge where that is the sum of smaller numbers: a distance from it keeps its digits.
            for edge, distance in ((self.low, self.sd * low), (self.high, -self.sd * high)):
                nearer = abs(edge) + distance.abs() < size
                x = torch.where(nearer, edge + distance, x)
                size = torch.where(nearer, abs(edge) + distance.abs(), size)
            x = x.clamp(self.low, self.high)
            slope = torch.exp(-0.5 * z.square() - _HALF_LOG_2PI - self.log_density(x))
        return with_slope(x, slope, z)

    def to_white(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            z = self._side * self._window.to_white(self._point(x))
            slope = torch.exp(self.log_density(x) + 0.5 * z.square() + _HALF_LOG_2PI)
        return with_slope(z, slope, x)

    def log_density(self, x: Tensor) -> Tensor:
        return self._window.log_density(self._point(x)) - math.log(self.sd)


@dataclass(frozen=True)
class LogNormal(Law):
    """exp of a normal with mean log(`median`) and standard deviation `sigma`."""

    median: float
    sigma: float

    low = 0.0
    high = math.inf

    def __post_init__(self) -> None:
        if not (0 < self.median < math.inf and 0 < self.sigma < math.inf):
            raise refuse(self, "A log-normal law needs median > 0 and sigma > 0.", "correct them")

    def from_white(self, z: Tensor) -> Tensor:
        return self.median * torch.exp(self.sigma * z)

    def to_white(self, x: Tensor) -> Tensor:
        return torch.log(x.clamp_min(0.0) / self.median) / self.sigma

    def log_density(self, x: Tensor) -> Tensor:
        return -0.5 * self.to_white(x) ** 2 - _HALF_LOG_2PI - math.log(self.sigma) - torch.log(x)


def _log_ratio(low: Tensor, high: Tensor) -> Tensor:
    """log(high / low) of 0 < low <= high, with its digits where they are close, and where they are so far
    apart that the ratio overflows.
    """
    near = high < 2.0 * low
    excess = torch.where(near, (high - low) / torch.where(near, low, 1.0), 0.0)
    return torch.where(near, torch.log1p(excess), torch.log(high) - torch.log(low))


def with_slope(value: Tensor, slope: Tensor, at: Tensor) -> Tensor:
    """`value`, whose derivative by `at` is `slope`: what an iteration found has no derivative of its own."""
    return torch.where(at.isfinite() & slope.isfinite(), value + slope * (at - at.detach()), value)
