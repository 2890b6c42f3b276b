r"""Bends that open the bounds of a field: the network draws any number, and none that comes out lies beyond.

With a lower bound `low` and, if there is one, an upper bound `high`

    t = low + c (z + ln(1 - e^-z) - ln(1 - e^-w)),    z = (x - low) / c,    w = (high - x) / c,

logarithmic within c of either bound and linear between them; for c far above high - low it is c times the
logit. Without `high` this is x = low + c softplus((t - low) / c). A field that has an upper bound alone is
mirrored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

# Skewness from which a field without a declared bound is given one. A smaller value bends fields that are
# skewed by chance, a larger one leaves more to the network that the Gaussian guide could do.
_SKEWED = 0.3
# How far below the least value simulated that bound lies, in units of the median's distance from it. A
# larger value straightens less, a smaller one leaves draws less room below what was simulated.
_SPARE = 0.05
# Widths c tried, in units of the mean's distance from the nearer bound. Powers of two from a field that is
# logarithmic up to half the mean to one that is so throughout: finer steps would take as many passes more.
SOFTNESS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
# Least distance from a bound, in units of c or of the distance between two bounds, if that is less: a float32
# on it would go to minus infinity. It is softened to -14 c, which a larger value would bring nearer.
_LEAST_HEIGHT = 1e-6


@dataclass(frozen=True)
class Bend:
    """What opens the bounds of one channel.

    Args:
        sign: -1 where the channel is mirrored first, else 1; the others are of what is mirrored.
        low: lower bound.
        high: upper bound, infinite where there is none.
        c: width of the bend.
    """

    sign: float
    low: float
    high: float
    c: float


def soften(x: Tensor, low: Tensor, c: Tensor, high: Tensor | float = math.inf) -> Tensor:
    """t of a field x that lies between `low` and `high`; all broadcast."""
    z, w = _heights(x, low, c, high)
    # ln(expm1(z)) without overflow.
    return low + c * (z + torch.log(-torch.expm1(-z)) - torch.log(-torch.expm1(-w)))


def stretch(x: Tensor, low: Tensor, c: Tensor, high: Tensor | float = math.inf) -> Tensor:
    """dt / dx of `soften`."""
    z, w = _heights(x, low, c, high)
    return 1.0 / -torch.expm1(-z) + 1.0 / torch.expm1(w)


def _heights(x: Tensor, low: Tensor, c: Tensor, high: Tensor | float) -> tuple[Tensor, Tensor]:
    """Distances z and w from either bound, in units of c."""
    least = _LEAST_HEIGHT * (torch.as_tensor(high - low) / c).clamp_max(1.0)
    return torch.maximum((x - low) / c, least), torch.maximum((high - x) / c, least)


def harden(t: Tensor, low: Tensor, c: Tensor, high: Tensor | float = math.inf) -> Tensor:
    """The inverse of `soften`."""
    at, width = (t - low) / c, torch.as_tensor(high - low) / c
    from_low = low + c * _risen(at, width)
    from_high = high - c * _risen(width - at, width)
    return torch.where(at < 0.5 * width, from_low, from_high)


def _risen(at: Tensor, width: Tensor) -> Tensor:
    """softplus(at) - softplus(at - width), which has all digits where `at` is below half the width."""
    narrow = width.clamp_max(1.0)
    near = torch.log1p(torch.expm1(narrow) * torch.sigmoid(at - narrow))
    return torch.where(width < 1.0, near, softplus(at) - softplus(at - width))


def fit_bend(x: Tensor, low: float, high: float, extremes: tuple[float, float] | None = None) -> Bend | None:
    """The bend of a channel that is nearest to normal after it; None where it needs none.

    Args:
        x: simulated values, (M, pixels).
        low, high: bounds of its support, infinite where there is none.
        extremes: the least and the largest of all simulated values, where x is some of them.
    """
    least, largest = (float(x.amin()), float(x.amax())) if extremes is None else extremes
    if least == largest:
        return None
    if math.isinf(low) and math.isinf(high):
        if skewness(x) < _SKEWED:
            return None
        low = least - _SPARE * (float(x.median()) - least)
    sign = -1.0 if math.isinf(low) else 1.0
    low, high = (low, high) if sign > 0 else (-high, math.inf)
    x, middle = sign * x, sign * float(x.mean())
    unit = min(middle - low, high - middle)
    score = _off_normal if math.isfinite(high) else _skew
    edges = torch.tensor(low), high
    off = [score(soften(x, edges[0], torch.tensor(k * unit), edges[1])) for k in SOFTNESS]
    return Bend(sign, low, high, SOFTNESS[off.index(min(off))] * unit)


def skewness(x: Tensor) -> float:
    """Skewness over all values."""
    return _standard_moment(x, 3)


def _skew(x: Tensor) -> float:
    return abs(_standard_moment(x, 3))


def _off_normal(x: Tensor) -> float:
    """Squared skewness and a quarter of the squared excess kurtosis (Jarque and Bera 1980): a field between
    two bounds may be far from normal without any skewness.
    """
    return _standard_moment(x, 3) ** 2 + 0.25 * (_standard_moment(x, 4) - 3.0) ** 2


def _standard_moment(x: Tensor, order: int) -> float:
    centred = x - x.mean()
    scaled = centred / centred.square().mean().sqrt()
    return float(scaled.pow(order).mean())
