"""Laws made of others, of distributions of scipy and torch, and of draws.

What has no inverse in closed form is inverted by bisection, in float64; derivatives are then those of the
inverse function, dx/dz = phi(z) / p(x).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.interpolate import PchipInterpolator
from torch import Tensor
from torch.distributions.constraints import Constraint
from torch.special import ndtri

from sbikit.problem.errors import SpecError, UnsupportedError
from sbikit.problem.laws import Law, describe_law, with_slope
from sbikit.problem.supports import support_bounds
from sbikit.problem.truncated import cdf

_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)
_HALVINGS = 1100  # of an interval of float64 numbers at most, from the largest to the smallest
_FEWEST_DRAWS = 100
_A_NODE = 40  # draws between two nodes of a law of draws: their quantiles scatter by a sixth of the distance
_MOST_NODES = 64
_STEP = 1e-6  # of a derivative by differences: the root of what float64 resolves, and a little more


class Mixture(Law):
    """A mixture of laws: one of them is picked by its weight, and draws.

    Args:
        laws: two or more.
        weights: one a law, positive; they need not sum to one.

    Raises:
        SpecError: there are too few laws, or the weights are not as many, or not positive.
    """

    def __init__(self, laws: Sequence[Law], weights: Sequence[float]) -> None:
        total = math.fsum(weights)
        positive = all(weight > 0 and math.isfinite(weight) for weight in weights)
        if len(laws) < 2 or len(laws) != len(weights) or not positive:
            raise SpecError(
                "A mixture needs two or more laws, each with a positive weight.",
                where="Mixture",
                expected="as many weights as laws, all above 0",
                got=f"{len(laws)} laws, weights {list(weights)}",
            )
        self.laws, self.weights = tuple(laws), tuple(weight / total for weight in weights)
        self.low, self.high = min(law.low for law in laws), max(law.high for law in laws)

    def __repr__(self) -> str:
        parts = zip(self.weights, self.laws, strict=True)
        return f"Mixture({' + '.join(f'{weight:.6g} {describe_law(law)}' for weight, law in parts)})"

    def from_white(self, z: Tensor) -> Tensor:
        """The value at white coordinate z: between those of the laws."""
        with torch.no_grad():
            ends = torch.stack([law.from_white(z) for law in self.laws])
            x = _bisected(lambda at: self._tails(at, z), ends.amin(0), ends.amax(0))
            slope = torch.exp(-0.5 * z.square() - _HALF_LOG_2PI - self.log_density(x))
        return with_slope(x, slope, z)

    def to_white(self, x: Tensor) -> Tensor:
        """The white coordinate of x."""
        with torch.no_grad():
            below, above = self._masses(x)
            z = torch.where(below < above, ndtri(below), -ndtri(above))
            slope = torch.exp(self.log_density(x) + 0.5 * z.square() + _HALF_LOG_2PI)
        return with_slope(z, slope, x)

    def log_density(self, x: Tensor) -> Tensor:
        """Log density at x."""
        terms = []
        for weight, law in zip(self.weights, self.laws, strict=True):
            inside = (x >= law.low) & (x <= law.high)
            safe = torch.where(inside, x, law.from_white(torch.zeros_like(x)))
            terms.append(torch.where(inside, math.log(weight) + law.log_density(safe), -math.inf))
        return torch.logsumexp(torch.stack(terms), 0)

    def _masses(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Below x and above it, each with its digits where it is small."""
        whites = [law.to_white(x.clamp(law.low, law.high)) for law in self.laws]
        below = torch.stack([w * cdf(z) for w, z in zip(self.weights, whites, strict=True)]).sum(0)
        above = torch.stack([w * cdf(-z) for w, z in zip(self.weights, whites, strict=True)]).sum(0)
        return below, above

    def _tails(self, x: Tensor, z: Tensor) -> Tensor:
        """Whether x lies above the value at z, by the smaller one of two masses."""
        below, above = self._masses(x)
        return torch.where(z < 0, below > cdf(z), above < cdf(-z))


class FromScipy(Law):
    """The law of a distribution of scipy with its numbers: `FromScipy(scipy.stats.gamma(2.0, scale=3.0))`.

    Args:
        distribution: a continuous distribution of one number, "frozen".

    Raises:
        SpecError: it is something else.
    """

    def __init__(self, distribution: Any) -> None:
        known = all(
            callable(getattr(distribution, name, None)) for name in ("ppf", "isf", "cdf", "sf", "logpdf")
        )
        if not known or not isinstance(getattr(distribution, "dist", None), stats.rv_continuous):
            raise SpecError(
                "A law of scipy is a continuous distribution with its numbers.",
                where="FromScipy",
                expected="for example scipy.stats.gamma(2.0, scale=3.0)",
                got=repr(distribution)[:80],
            )
        self.distribution = distribution
        low, high = distribution.support()
        if np.ndim(low) or np.ndim(high):
            raise SpecError(
                "A law is of one number.", where="FromScipy", got=f"numbers of shape {np.shape(low)}"
            )
        self.low, self.high = float(low), float(high)

    def __repr__(self) -> str:
        given = [
            *map(repr, self.distribution.args),
            *(f"{k}={v!r}" for k, v in self.distribution.kwds.items()),
        ]
        return f"FromScipy({self.distribution.dist.name}({', '.join(given)}))"

    def from_white(self, z: Tensor) -> Tensor:
        """The value at white coordinate z."""
        with torch.no_grad():
            numbers = _array(z)
            share = stats.norm.cdf(-np.abs(numbers))
            x = np.where(numbers < 0, self.distribution.ppf(share), self.distribution.isf(share))
            found = _tensor(x, z)
            slope = torch.exp(-0.5 * z.square() - _HALF_LOG_2PI - self.log_density(found))
        return with_slope(found, slope, z)

    def to_white(self, x: Tensor) -> Tensor:
        """The white coordinate of x."""
        with torch.no_grad():
            below, above = self.distribution.cdf(_array(x)), self.distribution.sf(_array(x))
            white = np.where(below < above, stats.norm.ppf(below), stats.norm.isf(above))
            z = _tensor(white, x)
            slope = torch.exp(self.log_density(x) + 0.5 * z.square() + _HALF_LOG_2PI)
        return with_slope(z, slope, x)

    def log_density(self, x: Tensor) -> Tensor:
        """Log density at x; its derivative is taken by differences."""
        return _with_difference(self.distribution.logpdf, x, self.low, self.high)


class FromTorch(Law):
    """The law of a distribution of torch of one number: `FromTorch(torch.distributions.Gamma(2.0, 3.0))`.

    Its own `icdf` and `cdf` are used where it has both, and scipy's where that knows it.

    Args:
        distribution: a continuous distribution without batch; its numbers are taken in float64.

    Raises:
        UnsupportedError: it is of several numbers, or discrete, or has no distribution function.
    """

    def __init__(self, distribution: torch.distributions.Distribution) -> None:
        name = type(distribution).__name__
        if distribution.batch_shape or distribution.event_shape:
            raise UnsupportedError(
                "A law is of one number.",
                where=f"FromTorch({name})",
                expected="batch_shape () and event_shape ()",
                got=f"{tuple(distribution.batch_shape)} and {tuple(distribution.event_shape)}",
                fix="give a law for each; if they depend on each other: sbikit.Prior(..., correlation=...)",
            )
        self.low, self.high = support_bounds(name, cast("Constraint", distribution.support))
        self._name = repr(distribution)
        theirs = _in_scipy(distribution)
        self._law = (
            _ByFunctions(_double(distribution), self.low, self.high) if theirs is None else FromScipy(theirs)
        )

    def __repr__(self) -> str:
        return f"FromTorch({self._name})"

    def from_white(self, z: Tensor) -> Tensor:
        """The value at white coordinate z."""
        return self._law.from_white(z)

    def to_white(self, x: Tensor) -> Tensor:
        """The white coordinate of x."""
        return self._law.to_white(x)

    def log_density(self, x: Tensor) -> Tensor:
        """Log density at x."""
        return self._law.log_density(x)


class FromDraws(Law):
    """A law of the density of draws, for example of a chain: the prior from another measurement.

    Between quantiles of the draws the value is a monotone cubic (Fritsch and Carlson 1980) of its white
    coordinate; beyond the outermost ones it goes on in a straight line, so the tails are normal. With one
    bound the same holds of the logarithm of the distance from it, with two of the white coordinate of a
    uniform law between them.

    Args:
        draws: 100 or more.
        low, high: bounds of the law, beyond which no draw lies.

    Raises:
        SpecError: there are too few draws, or one is not finite or out of bounds, or many are the same.
    """

    def __init__(self, draws: ArrayLike, *, low: float = -math.inf, high: float = math.inf) -> None:
        values = np.sort(np.asarray(draws, dtype=np.float64).ravel())
        if len(values) < _FEWEST_DRAWS or not np.isfinite(values).all():
            raise SpecError(
                "A law of draws needs enough finite ones.",
                where="FromDraws",
                expected=f"{_FEWEST_DRAWS} or more finite numbers",
                got=f"{len(values)}, {int((~np.isfinite(values)).sum())} of them not finite",
            )
        if not (low < values[0] and values[-1] < high):
            raise SpecError(
                "Draws lie beyond the bounds of their law.",
                where="FromDraws",
                expected=f"numbers between {low:g} and {high:g}",
                got=f"{values[0]:g} to {values[-1]:g}",
            )
        self.low, self.high = low, high
        count = int(np.clip(len(values) // _A_NODE, 4, _MOST_NODES))
        shares = (np.arange(count) + 0.5) / count
        places = np.quantile(self._straight(values), shares)
        if not (np.diff(places) > 0).all():
            raise SpecError(
                "Many of the draws are the same number, which a density cannot hold.",
                where="FromDraws",
                got=f"{len(np.unique(values))} different numbers among {len(values)}",
                fix="fix the parameter, or thin the chain",
            )
        self._white, self._places = stats.norm.ppf(shares), places
        self._curve = PchipInterpolator(self._white, places)
        inner = self._curve.derivative()(self._white)
        ends = np.diff(places)[[0, -1]] / np.diff(self._white)[[0, -1]]
        self._slopes = np.where(inner[[0, -1]] > 0, inner[[0, -1]], ends)

    def __repr__(self) -> str:
        return f"FromDraws({describe_law(self)})"

    def from_white(self, z: Tensor) -> Tensor:
        """The value at white coordinate z."""
        with torch.no_grad():
            y = self._at(_array(z))
            x = _tensor(self._bent(y), z).clamp(self.low, self.high)
            slope = torch.exp(-0.5 * z.square() - _HALF_LOG_2PI - _tensor(self._log_density(y, _array(z)), z))
        return with_slope(x, slope, z)

    def to_white(self, x: Tensor) -> Tensor:
        """The white coordinate of x."""
        with torch.no_grad():
            y = self._straight(_array(x))
            z = _tensor(self._white_of(y), x)
            slope = torch.exp(_tensor(self._log_density(y, _array(z)), x) + 0.5 * z.square() + _HALF_LOG_2PI)
        return with_slope(z, slope, x)

    def log_density(self, x: Tensor) -> Tensor:
        """Log density at x; its derivative is taken by differences."""

        def density(values: NDArray[Any]) -> NDArray[Any]:
            y = self._straight(values)
            return self._log_density(y, self._white_of(y))

        return _with_difference(density, x, self.low, self.high)

    # Coordinates: x, the value; y, the same on the whole line; z, white.

    def _straight(self, x: NDArray[Any]) -> NDArray[Any]:
        if math.isinf(self.low) and math.isinf(self.high):
            return x
        with np.errstate(divide="ignore", invalid="ignore"):
            if math.isinf(self.high):
                return np.log(np.maximum(x - self.low, 0.0))
            if math.isinf(self.low):
                return -np.log(np.maximum(self.high - x, 0.0))
            share = (x - self.low) / (self.high - self.low)
            return np.where(
                share < 0.5, stats.norm.ppf(share.clip(0, 1)), stats.norm.isf((1 - share).clip(0, 1))
            )

    def _bent(self, y: NDArray[Any]) -> NDArray[Any]:
        if math.isinf(self.low) and math.isinf(self.high):
            return y
        if math.isinf(self.high):
            return self.low + np.exp(y)
        if math.isinf(self.low):
            return self.high - np.exp(-y)
        width = self.high - self.low
        return np.where(y < 0, self.low + width * stats.norm.cdf(y), self.high - width * stats.norm.sf(y))

    def _log_slope(self, y: NDArray[Any]) -> NDArray[Any]:
        """log dx/dy."""
        if math.isinf(self.low) and math.isinf(self.high):
            return np.zeros_like(y)
        if math.isinf(self.high):
            return y
        if math.isinf(self.low):
            return -y
        return math.log(self.high - self.low) + stats.norm.logpdf(y)

    def _at(self, z: NDArray[Any]) -> NDArray[Any]:
        """y at z."""
        first, last = self._white[0], self._white[-1]
        inside = self._curve(np.clip(z, first, last))
        return inside + self._slopes[0] * np.minimum(z - first, 0) + self._slopes[1] * np.maximum(z - last, 0)

    def _white_of(self, y: NDArray[Any]) -> NDArray[Any]:
        """z at y."""
        first, last = self._places[0], self._places[-1]
        inside = np.clip(y, first, last)
        at = np.clip(np.searchsorted(self._places, inside) - 1, 0, len(self._places) - 2)
        low, high = self._white[at], self._white[at + 1]
        for _ in range(60):  # of an interval of numbers of size 1
            middle = 0.5 * (low + high)
            above = self._curve(middle) > inside
            low, high = np.where(above, low, middle), np.where(above, middle, high)
        with np.errstate(invalid="ignore"):
            return (
                0.5 * (low + high)
                + np.minimum(y - first, 0) / self._slopes[0]
                + np.maximum(y - last, 0) / self._slopes[1]
            )

    def _log_density(self, y: NDArray[Any], z: NDArray[Any]) -> NDArray[Any]:
        inside = self._curve.derivative()(np.clip(z, self._white[0], self._white[-1]))
        slope = np.where(
            z < self._white[0], self._slopes[0], np.where(z > self._white[-1], self._slopes[1], inside)
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            found = stats.norm.logpdf(z) - np.log(slope) - self._log_slope(y)
        return np.where(np.isnan(found), -np.inf, found)


class _ByFunctions(Law):
    """A distribution of torch by its own functions; of the upper tail no more than 1 - cdf is known."""

    def __init__(self, distribution: torch.distributions.Distribution, low: float, high: float) -> None:
        self.low, self.high, self._distribution = low, high, distribution
        try:
            middle = distribution.icdf(torch.tensor(0.5, dtype=torch.float64))
            distribution.cdf(middle)
        except NotImplementedError as error:
            raise UnsupportedError(
                f"torch knows no distribution function of {type(distribution).__name__}, or no inverse.",
                where=f"FromTorch({distribution!r})",
                expected="a distribution with `cdf` and `icdf`",
                fix="take the same of scipy: sbikit.FromScipy(scipy.stats.NAME(...))",
            ) from error

    def from_white(self, z: Tensor) -> Tensor:
        return self._distribution.icdf(cdf(z)).clamp(self.low, self.high)

    def to_white(self, x: Tensor) -> Tensor:
        return ndtri(self._distribution.cdf(x.clamp(self.low, self.high)).clamp(0.0, 1.0))

    def log_density(self, x: Tensor) -> Tensor:
        return self._distribution.log_prob(x)


def _double(distribution: torch.distributions.Distribution) -> torch.distributions.Distribution:
    """The same distribution with its numbers in float64."""
    if type(distribution) is torch.distributions.TransformedDistribution:
        return torch.distributions.TransformedDistribution(
            _double(distribution.base_dist), distribution.transforms, validate_args=False
        )
    cls: Any = type(distribution)
    given = {name: _number(getattr(distribution, name)) for name in cls.arg_constraints}
    return cast("torch.distributions.Distribution", cls(**given, validate_args=False))


def _with_difference(
    function: Callable[[NDArray[Any]], NDArray[Any]], x: Tensor, low: float, high: float
) -> Tensor:
    """A function of numbers between low and high, whose derivative by them is a difference."""
    at = _array(x)
    found = _tensor(function(at), x)
    if not x.requires_grad:
        return found
    step = _STEP * np.maximum(np.abs(at), 1e-3)
    up, down = np.minimum(at + step, high), np.maximum(at - step, low)
    return with_slope(found, _tensor((function(up) - function(down)) / (up - down), x), x)


def _tensor(values: ArrayLike, like: Tensor) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float64, device=like.device)


def _array(x: Tensor) -> NDArray[Any]:
    found: NDArray[Any] = x.detach().cpu().numpy()
    return found


def _number(value: Any) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float64)


def _in_scipy(one: torch.distributions.Distribution) -> Any:
    """The distribution in scipy, of those for which torch has no distribution function; None of others."""
    torch_has = torch.distributions
    if isinstance(one, torch_has.Gamma):  # Chi2 is one
        return stats.gamma(float(one.concentration), scale=1.0 / float(one.rate))
    if isinstance(one, torch_has.InverseGamma):
        return stats.invgamma(float(one.concentration), scale=float(one.rate))
    if isinstance(one, torch_has.Beta):
        return stats.beta(float(one.concentration1), float(one.concentration0))
    if isinstance(one, torch_has.StudentT):
        return stats.t(float(one.df), loc=float(one.loc), scale=float(one.scale))
    if isinstance(one, torch_has.FisherSnedecor):
        return stats.f(float(one.df1), float(one.df2))
    return None


def _bisected(above: Callable[[Tensor], Tensor], low: Tensor, high: Tensor) -> Tensor:
    """The largest x between low and high that does not lie above a value, to the last digit."""
    for _ in range(_HALVINGS):
        middle = 0.5 * low + 0.5 * high
        done = (middle <= low) | (middle >= high)
        if bool(done.all()):
            break
        up = above(middle)
        low, high = torch.where(up | done, low, middle), torch.where(up & ~done, middle, high)
    return 0.5 * low + 0.5 * high
