"""Independent draws from a posterior by rejection from a mixture that has learned its shape (`mixture`).

In white coordinates z the prior is standard normal and the target p(z) ~ L(z) phi(z). The proposal q is
learned in rounds from weighted points (Cappe et al. 2004, doi:10.1198/106186004X12803), the first time from
points of the prior. Then a fresh point from q is accepted with probability min(1, w / c), w = L phi / q.
Accepted points are independent, none comes twice, and their density is p'(z) ~ min(w, c) q(z): exactly p
where c bounds w, and else at a distance in total variation of at most the share of p's mass above c,

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
from sbikit_exact.wiener.mixture import LEAST_ESS, Mixture, Weighted, largest, log_normal

LogLikelihood = Callable[[Tensor], Tensor]
"""log L (Q,) of white coordinates (Q, D), float64."""

LEAST_ACCEPTED = 400
"""How many points are accepted at least, so that the excess is known: as many as are asked of chains."""

_GROWTH = 1.1  # of the effective number, at which one more round is worth it
_MOST_ROUNDS = 12  # posteriors tested take 2 to 5, down to 1e-6 of the prior's volume
_REACH = 7.0  # white coordinates beyond are not looked at: the prior has 3e-12 of its mass there
_ACCEPTANCE = 0.02  # least share accepted: at most 50 proposals a draw; a larger one lets more lie above c
_LOWEST = -50.0  # of log c below the largest weight: all is accepted there
_MARGIN = math.log(2.0)  # of c above the largest weight seen: half as many are accepted, few lie above


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


def draw_by_rejection(
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
        return Weighted(z, _finite(found + log_normal(z) - proposal.log_density(z)))

    proposal, last, rounds = _learned(scouts, weighted, kernels, source)
    ceiling = _ceiling(last.log_weight)
    z, pool = _accepted(lambda: weighted(proposal), ceiling, max(n, LEAST_ACCEPTED), source)
    weights = pool.weights()
    below = torch.exp((ceiling - pool.log_weight).clamp(max=0.0))
    return Drawn(
        z=z[:n],
        ess=pool.ess(),
        largest=float(weights.max()),
        excess=float((weights * (1.0 - below)).sum()),
        evaluations=points * rounds + len(pool.z),
    )


def _accepted(
    propose: Callable[[], Weighted], ceiling: float, least: int, source: torch.Generator
) -> tuple[Tensor, Weighted]:
    """At least so many accepted points (n, D), and all that were proposed."""
    pools: list[Weighted] = []
    kept: list[Tensor] = []
    while sum(len(part) for part in kept) < least:
        pool = propose()
        chance = torch.rand(len(pool.z), generator=source, dtype=torch.float64)
        pools.append(pool)
        kept.append(pool.z[chance.log() < pool.log_weight - ceiling])
    whole = Weighted(torch.cat([p.z for p in pools]), torch.cat([p.log_weight for p in pools]))
    return torch.cat(kept), whole


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
        if LEAST_ESS <= reached < _GROWTH * before:
            break
    return proposal, last, rounds


def _ceiling(log_weight: Tensor) -> float:
    """log c: twice the largest weight, or less if else too few points were accepted."""
    top = float(log_weight.max())
    weights = torch.exp(log_weight - top)

    def accepts(log_c: float) -> bool:
        return float((weights * math.exp(-log_c)).clamp(max=1.0).mean()) >= _ACCEPTANCE

    return top + largest(accepts, _LOWEST, _MARGIN)


def _finite(log_weight: Tensor) -> Tensor:
    """Minus infinity where a likelihood is not a number."""
    return log_weight.nan_to_num(nan=-math.inf, posinf=-math.inf, neginf=-math.inf)


def _refuse_nothing(points: Weighted) -> None:
    if not bool((points.log_weight > -math.inf).any()):
        raise SimulationError(
            "The likelihood is finite nowhere in the prior.",
            where="the sampler's first points",
            expected="a finite likelihood at some parameters of the prior",
            got=f"none at {len(points.z)} points of the prior",
            fix="narrow the prior",
        )
