r"""A standard normal cut to a window, in terms that lose no digits far out and in narrow windows.

Differences of Phi vanish beyond 8 standard deviations and cancel where edges are close. Masses are told as
logarithms instead, relative to the density at the window's point nearest to zero: from alpha >= 0

    M(alpha, d) = int_0^d exp(-alpha s - s^2 / 2) ds
                = sqrt(pi / 2) (erfcx(alpha / sqrt 2) - exp(-alpha d - d^2 / 2) erfcx((alpha + d) / sqrt 2)),

so that the mass of alpha..alpha + d is phi(alpha) M(alpha, d) however far out alpha lies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.special import erf, erfc, erfcx, erfinv, log_ndtr, ndtri

_ROOT_HALF = math.sqrt(0.5)
_ROOT_HALF_PI = math.sqrt(0.5 * math.pi)
_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)
# Of d (1 + alpha): below, the difference of the two erfcx loses digits, and six nodes of quadrature none.
_SHORT = 0.25
_NODES, _WEIGHTS = (part.tolist() for part in np.polynomial.legendre.leggauss(6))
_TAIL = 1.0  # standard deviations from which an edge lies in a tail; nearer, Phi has all its digits
# Newton's steps in a tail, which come from the right and never pass the root, and those that polish a
# distance from an edge, to which it is right in absolute terms before. Both end at rounding.
_STEPS, _POLISH = 6, 2
# Distances from an edge above which nothing is polished: they have 14 digits as they are.
_NEAR = 0.01
_LEAST = 1e-30  # a distance that rounding made zero or less starts here
_LONGEST = 100.0  # of the logarithm of a distance, in one step of polish


class Point(NamedTuple):
    """Points y = a + d = b - e, each tensor float64; a distance from an infinite edge is infinite."""

    y: Tensor
    d: Tensor
    e: Tensor


@dataclass(frozen=True)
class Window:
    """A standard normal cut to a..a + width, mirrored so that its middle is positive.

    Args:
        a: lower edge; minus infinity only where the width is infinite too.
        width: b - a.
    """

    a: float
    width: float

    def below(self, d: Tensor) -> Point:
        """Points d above the lower edge."""
        return Point(self.a + d, d, self.width - d)

    def above(self, e: Tensor) -> Point:
        """Points e below a finite upper edge."""
        return self.below(self.width - e)._replace(e=e)

    @cached_property
    def log_total(self) -> float:
        """log of the mass in the window, over the density at its point nearest to zero."""
        if math.isinf(self.a):
            return _HALF_LOG_2PI
        return float(self._log_lower(self.below(torch.tensor(self.width, dtype=torch.float64))))

    def log_density(self, at: Point) -> Tensor:
        """Log density in the window."""
        return self._log_phi(at) - self.log_total

    def to_white(self, at: Point) -> Tensor:
        """White coordinates of points."""
        if math.isinf(self.a):
            return at.y
        low, high = self._log_lower(at) - self.log_total, self._log_upper(at) - self.log_total
        return torch.where(low < high, ndtri(low.exp()), -ndtri(high.exp()))

    def from_white(self, z: Tensor) -> Point:
        """Points at white coordinates."""
        if math.isinf(self.a):
            return Point(z, torch.full_like(z, math.inf), torch.full_like(z, math.inf))
        at = self._from_tail(z) if self.a >= _TAIL else self._from_middle(z)
        lower = z <= 0
        polished = torch.where(lower, at.d, at.e) <= _NEAR
        if not bool(polished.any()):
            return at
        target = log_ndtr(-z.abs())
        for _ in range(_POLISH):
            at = _where(polished, self._polished(at, lower, target), at)
        return at

    def _from_tail(self, z: Tensor) -> Point:
        """From log S(d) = log(1 - q (1 - S(width))), S the survival from the lower edge and q = Phi(z)."""
        whole = self._log_survival(torch.full_like(z, self.width))
        target = torch.where(
            z < 0,
            torch.log1p(cdf(z) * torch.expm1(whole)),
            torch.logaddexp(log_ndtr(-z), log_ndtr(z) + whole),
        )
        # Both bound d from above, since the hazard rises from its value at the edge and is more than y.
        steep = -2.0 * target / (self.a + torch.hypot(torch.full_like(z, self.a), (-2.0 * target).sqrt()))
        d = torch.minimum(steep, -target / _hazard(torch.full_like(z, self.a)))
        for _ in range(_STEPS):
            d = d + (self._log_survival(d) - target) / _hazard(self.a + d)
        return self.below(d.clamp(0.0, self.width))

    def _from_middle(self, z: Tensor) -> Point:
        """From Phi, erf or its complement, whichever has digits there."""
        a, b = torch.tensor([self.a, self.a + self.width], dtype=z.dtype, device=z.device)
        total = math.exp(self.log_total - _HALF_LOG_2PI - 0.5 * max(self.a, 0.0) ** 2)
        low, high = cdf(a) + cdf(z) * total, cdf(-b) + cdf(-z) * total
        middle = erfinv(erf(_ROOT_HALF * a) + 2.0 * cdf(z) * total) / _ROOT_HALF
        y = torch.where(low < 0.3, ndtri(low), torch.where(high < 0.3, -ndtri(high), middle))
        return Point(y, y - a, b - y)

    def _polished(self, at: Point, lower: Tensor, target: Tensor) -> Point:
        """A step of Newton's method for log s, with s the distance from the nearer edge in mass.

        Args:
            at: points that are right to rounding of y.
            lower: whether that is the lower edge.
            target: log mass between it and the points.
        """
        s = torch.where(lower, at.d, at.e).clamp(_LEAST, self.width)
        at = self._from_edge(s, lower)
        start, end = self.below(torch.zeros_like(s)), self.below(torch.full_like(s, self.width))
        found = self._log_between(_where(lower, start, at), _where(lower, at, end), s) - self.log_total
        slope = s * torch.exp(self.log_density(at) - found)
        s = s * torch.exp(((target - found) / slope).clamp(-_LONGEST, _LONGEST))
        return self._from_edge(s.clamp(max=self.width), lower)

    def _from_edge(self, s: Tensor, lower: Tensor) -> Point:
        return _where(lower, self.below(s), self.above(s))

    def _log_phi(self, at: Point) -> Tensor:
        """log density over that at the point of the window nearest to zero."""
        return -0.5 * at.y.square() if self.a < 0 else -at.d * (self.a + 0.5 * at.d)

    def _log_lower(self, at: Point) -> Tensor:
        """log mass between the lower edge and the points."""
        start = self.below(torch.zeros_like(at.d))
        return self._log_between(start, at, at.d)

    def _log_upper(self, at: Point) -> Tensor:
        """log mass between the points and the upper edge."""
        end = self.below(torch.full_like(at.d, self.width))
        return self._log_between(at, end, at.e)

    def _log_between(self, start: Point, end: Point, length: Tensor) -> Tensor:
        from_end = end.y <= 0  # the end is nearer to zero
        near = torch.where(from_end, -end.y, start.y.clamp_min(0.0))
        log_phi = torch.where(from_end, self._log_phi(end), self._log_phi(start))
        across = _ROOT_HALF_PI * (erf(_ROOT_HALF * end.y) - erf(_ROOT_HALF * start.y))
        around = (start.y < 0) & (end.y > 0)
        return torch.where(around, torch.log(across), log_phi + _log_mass(near, length))

    def _log_survival(self, d: Tensor) -> Tensor:
        """log of the share beyond a + d of the mass beyond a, for a tail."""
        ratio = erfcx(_ROOT_HALF * (self.a + d)) / erfcx(torch.full_like(d, _ROOT_HALF * self.a))
        return torch.where(torch.isinf(d), -math.inf, -d * (self.a + 0.5 * d) + torch.log(ratio))


def _log_mass(alpha: Tensor, d: Tensor) -> Tensor:
    """log M(alpha, d) of alpha >= 0 and d >= 0, which may be infinite."""
    short = d * (1.0 + alpha) < _SHORT
    near = torch.where(short, d, 0.0)
    nodes = [0.5 * (1.0 + node) * near for node in _NODES]
    mean = sum(0.5 * w * torch.exp(-s * (alpha + 0.5 * s)) for w, s in zip(_WEIGHTS, nodes, strict=True))
    left = torch.where(
        torch.isinf(d), 0.0, torch.exp(-d * (alpha + 0.5 * d)) * erfcx(_ROOT_HALF * (alpha + d))
    )
    long = _ROOT_HALF_PI * (erfcx(_ROOT_HALF * alpha) - left)
    return torch.log(torch.where(short, near * mean, long))


def cdf(z: Tensor) -> Tensor:
    """Phi(z), with all digits in the lower tail: `torch.special.ndtr` has none of them at -8."""
    return 0.5 * erfc(-_ROOT_HALF * z)


def _hazard(y: Tensor) -> Tensor:
    """phi(y) / Phi(-y)."""
    return 1.0 / (_ROOT_HALF_PI * erfcx(_ROOT_HALF * y))


def _where(condition: Tensor, one: Point, other: Point) -> Point:
    return Point(*(torch.where(condition, x, y) for x, y in zip(one, other, strict=True)))
