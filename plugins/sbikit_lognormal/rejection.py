"""Independent draws from a posterior by rejection from a mixture that has learned its shape.

In white coordinates z the prior is standard normal and the target p(z) ~ L(z) phi(z). The proposal is

    q(z) = a phi(z) + (1 - a) / m sum_j t(z; c_j, h^2 V),

a share of the prior (Hesterberg 1995, doi:10.1080/00401706.1995.10484303) and Student-t kernels on m points
of the posterior, V its covariance and h wider than is best for a density (Silverman 1986, section 4.3), so
that no point between kernels has a large weight w = L phi / q. It is learned in rounds from weighted points
(Cappe et al. 2004, doi:10.1198/106186004X12803), the first time from points of the prior. Weights that so few
points carry that they tell no covariance are flattened to w^b, b < 1, until more do.

Then a fresh point from q is accepted with probability min(1, w / c). Accepted points are independent, none
comes twice, and their density is p'(z) ~ min(w, c) q(z): exactly p where c bounds w, and else at a distance
in total variation of at most the share of p's mass that lies above c,

    excess = sum max(w - c, 0) / sum w,

which the same points measure. c is twice the largest weight in the last round, from points that are not used
again, or less if else fewer than a least share of the points were accepted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sbikit import SimulationError

LogLikelihood = Callable[[Tensor], Tensor]
"""log L (Q,) of white coordinates (Q, D), float64."""

LEAST_ACCEPTED = 400
"""How many points are accepted at least, so that the excess is known."""

_PRIOR_SHARE = 0.05
_LEAST_ESS = 100.0
_GROWTH = 1.1  # of the effective number, at which one more round is worth it
_MOST_ROUNDS = 12
_WIDER = 1.4
_ROWS = 256
_REACH = 7.0  # white coordinates beyond are not looked at: the prior has 3e-12 of its mass there
_ACCEPTANCE = 0.02
_MARGIN = math.log(2.0)


@dataclass(frozen=True)
class Weighted:
    """Points and their weights.

    Args:
        z: white coordinates (Q, D).
        log_weight: log of the weights, (Q,), whatever their scale.
    """

    z: Tensor
    log_weight: Tensor

    def weights(self, power: float = 1.0) -> Tensor:
        """Weights to a power (Q,), of sum 1."""
        return torch.softmax(power * self.log_weight, 0)

    def ess(self, power: float = 1.0) -> float:
        """Effective number of points, (sum w)^2 / sum w^2."""
        return 1.0 / float(self.weights(power).square().sum())


@dataclass(frozen=True)
class Drawn:
    """Draws, and what they rest on.

    Args:
        z: white coordinates (n, D).
        ess: effective number of the points that the draws were accepted from.
        largest: the largest of their weights, as a share of all.
        excess: a bound, estimated, on the distance in total variation from the posterior.
        evaluations: of the likelihood, without those at points of the prior.
    """

    z: Tensor
    ess: float
    largest: float
    excess: float
    evaluations: int


class Mixture:
    """The proposal.

    Args:
        points: weighted points that it is made around.
        kernels: how many kernels.
        source: chooses their centres.
    """

    def __init__(self, points: Weighted, kernels: int, source: torch.Generator) -> None:
        D = points.z.shape[1]
        weights = _flattened(points)
        mean = weights @ points.z
        apart = points.z - mean
        width = _WIDER * (4.0 / ((D + 2.0) * kernels)) ** (1.0 / (D + 4.0))
        self._root = width * torch.linalg.cholesky(apart.T @ (weights[:, None] * apart))
        self._centres = points.z[torch.multinomial(weights, kernels, replacement=True, generator=source)]
        self._freedom = 4 + D % 2  # an even sum with D: the density is a whole power
        normal = math.lgamma(0.5 * (self._freedom + D)) - math.lgamma(0.5 * self._freedom)
        scale = 0.5 * D * math.log(self._freedom * math.pi) + float(self._root.diagonal().log().sum())
        self._peak = math.exp(normal - scale) / kernels

    def sample(self, count: int, source: torch.Generator) -> Tensor:
        """Points (count, D)."""
        D = self._centres.shape[1]
        z, chi = torch.randn(count, D + self._freedom, generator=source, dtype=torch.float64).split(
            [D, self._freedom], 1
        )
        far = (z @ self._root.T) * (self._freedom / chi.square().sum(1, keepdim=True)).sqrt()
        chosen = torch.randint(len(self._centres), (count,), generator=source)
        from_prior = torch.rand(count, 1, generator=source, dtype=torch.float64) < _PRIOR_SHARE
        return torch.where(from_prior, z, self._centres[chosen] + far)

    def log_density(self, z: Tensor) -> Tensor:
        """log q (Q,) at points (Q, D)."""
        # Distances to all kernels of a few points stay in the processor's cache.
        kernels = torch.cat([self._kernels(part) for part in z.split(_ROWS)])
        return torch.log(_PRIOR_SHARE * _log_normal(z).exp() + (1.0 - _PRIOR_SHARE) * kernels)

    def _kernels(self, z: Tensor) -> Tensor:
        """The density of the kernels alone, (Q,)."""
        own, theirs = self._round(z), self._round(self._centres)
        square = own.square().sum(1, keepdim=True) + theirs.square().sum(1) - 2.0 * own @ theirs.T
        near = (1.0 + square.clamp_(min=0.0) / self._freedom).reciprocal_()
        return self._peak * near.pow_((self._freedom + z.shape[1]) // 2).sum(1)

    def _round(self, z: Tensor) -> Tensor:
        """Coordinates (Q, D) in which the kernels are round."""
        return torch.linalg.solve_triangular(self._root, z.T, upper=False).T


def draw(
    log_likelihood: LogLikelihood,
    scouts: Weighted,
    n: int,
    *,
    kernels: int,
    points: int,
    source: torch.Generator,
) -> Drawn:
    """Independent draws from the posterior.

    Args:
        log_likelihood: log L; where it is not finite there is no posterior.
        scouts: points of the prior, with log L as their log weights.
        n: draws.
        kernels: of the proposal.
        points: a round, and at a time when drawing.
        source: where randomness comes from.

    Raises:
        SimulationError: the likelihood is finite at no point of the prior.
    """

    def weighted(proposal: Mixture) -> Weighted:
        z = proposal.sample(points, source)
        inside = z.abs().amax(1) <= _REACH
        found = torch.full((points,), -math.inf, dtype=torch.float64)
        found[inside] = log_likelihood(z[inside])
        return Weighted(z, _finite(found + _log_normal(z) - proposal.log_density(z)))

    proposal, last, rounds = _learned(scouts, weighted, kernels, source)
    ceiling = _ceiling(last.log_weight)
    pools: list[Weighted] = []
    kept: list[Tensor] = []
    while sum(len(part) for part in kept) < max(n, LEAST_ACCEPTED):
        pool = weighted(proposal)
        chance = torch.rand(points, generator=source, dtype=torch.float64)
        pools.append(pool)
        kept.append(pool.z[chance.log() < pool.log_weight - ceiling])
    pool = Weighted(torch.cat([p.z for p in pools]), torch.cat([p.log_weight for p in pools]))
    weights = pool.weights()
    below = torch.exp((ceiling - pool.log_weight).clamp(max=0.0))
    return Drawn(
        z=torch.cat(kept)[:n],
        ess=pool.ess(),
        largest=float(weights.max()),
        excess=float((weights * (1.0 - below)).sum()),
        evaluations=points * (rounds + len(pools)),
    )


def _learned(
    scouts: Weighted, weighted: Callable[[Mixture], Weighted], kernels: int, source: torch.Generator
) -> tuple[Mixture, Weighted, int]:
    """A proposal that one more round would hardly make better, points of it, and how many rounds it took."""
    last = Weighted(scouts.z, _finite(scouts.log_weight))
    _refuse_nothing(last)
    rounds, reached = 0, 0.0
    while rounds < _MOST_ROUNDS:
        rounds += 1
        proposal = Mixture(last, kernels, source)
        last = weighted(proposal)
        before, reached = reached, last.ess()
        if _LEAST_ESS <= reached < _GROWTH * before:
            break
    return proposal, last, rounds


def _flattened(points: Weighted) -> Tensor:
    """Weights (Q,) to the largest power up to 1 at which enough points carry them."""
    low, high = 1e-12, 1.0
    if points.ess() >= _LEAST_ESS:
        return points.weights()
    for _ in range(40):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if points.ess(middle) >= _LEAST_ESS else (low, middle)
    return points.weights(low)


def _ceiling(log_weight: Tensor) -> float:
    """log c: twice the largest weight, or less if else too few points were accepted."""
    top = float(log_weight.max())
    weights = torch.exp(log_weight - top)

    def accepted(log_c: float) -> float:
        return float((weights * math.exp(-log_c)).clamp(max=1.0).mean())

    low, high = -50.0, _MARGIN
    if accepted(high) >= _ACCEPTANCE:
        return top + high
    for _ in range(40):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if accepted(middle) >= _ACCEPTANCE else (low, middle)
    return top + low


def _log_normal(z: Tensor) -> Tensor:
    """log phi (Q,) of points (Q, D)."""
    return -0.5 * (z.square().sum(1) + z.shape[1] * math.log(2.0 * math.pi))


def _finite(log_weight: Tensor) -> Tensor:
    """Minus infinity where a likelihood is not a number."""
    return log_weight.nan_to_num(nan=-math.inf, posinf=-math.inf, neginf=-math.inf)


def _refuse_nothing(points: Weighted) -> None:
    if not bool((points.log_weight > -math.inf).any()):
        raise SimulationError(
            "The likelihood is finite nowhere in the prior.",
            where="the sampler's first points",
            expected="spectra that are finite numbers",
            got=f"none at {len(points.z)} points of the prior",
            fix="narrow the prior",
        )


__all__ = ["LEAST_ACCEPTED", "Drawn", "Mixture", "Weighted", "draw"]
