"""Ways in which a posterior is wrong, made of the draws of an exact one.

Parameters are spoiled beside exact maps, and maps beside exact parameters, each by one fault alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from _power.toy import prior_draws, to_gaussian
from sbikit import Evidence

Spoiling = Callable[[Evidence, torch.Generator], Evidence]
_BAD = 20  # one observation in so many is bad


def _parameters(change: Callable[[Tensor], Tensor]) -> Spoiling:
    """Change the draws of the parameters, (n, B, D)."""
    return lambda evidence, _: _with(evidence, theta=change(evidence.draws["theta"]))


def _shifted(by: float) -> Spoiling:
    return _parameters(lambda draws: draws + by * draws.std(0))


def _widened(factor: float) -> Spoiling:
    return _parameters(lambda draws: draws.mean(0) + factor * (draws - draws.mean(0)))


def _parameters_unrelated(evidence: Evidence, source: torch.Generator) -> Evidence:
    """Every parameter's draws in an order of their own."""
    draws = evidence.draws["theta"]
    order = torch.rand(draws.shape, generator=source).argsort(0)
    return _with(evidence, theta=draws.gather(0, order))


def _maps_unrelated(evidence: Evidence, source: torch.Generator) -> Evidence:
    """Maps in an order of their own."""
    draws = evidence.draws["field"]
    order = torch.rand(draws.shape[:2], generator=source).argsort(0)
    columns = torch.arange(draws.shape[1])
    return _with(evidence, field=draws[order, columns])


def _prior(evidence: Evidence, source: torch.Generator) -> Evidence:
    """Draws of the prior, whatever the data."""
    n, B = evidence.draws["theta"].shape[:2]
    return _with(evidence, **prior_draws(B, n, source.initial_seed()))


def _bad_observations(evidence: Evidence, source: torch.Generator) -> Evidence:
    """One observation in twenty has the draws of another one."""
    B = evidence.draws["theta"].shape[1]
    rows = torch.arange(B)
    bad = torch.randperm(B, generator=source)[: round(B / _BAD)]
    rows[bad] = (bad + B // 2) % B
    return _with(evidence, **{name: draws[:, rows] for name, draws in evidence.draws.items()})


def _normal_maps(evidence: Evidence, _: torch.Generator) -> Evidence:
    """Maps with the exact mean and standard deviation of every pixel, but normal pixels."""
    draws = evidence.draws["field"]
    normal = to_gaussian(draws)
    z = (normal - normal.mean(0)) / normal.std(0)
    return _with(evidence, field=draws.mean(0) + draws.std(0) * z)


def _with(evidence: Evidence, **draws: Tensor) -> Evidence:
    return replace(evidence, draws={**evidence.draws, **draws})


EXACT = "exact draws"
SPOILINGS: dict[str, Spoiling] = {
    EXACT: lambda evidence, _: evidence,
    "every parameter shifted by 0.1 sd": _shifted(0.1),
    "every parameter shifted by 0.3 sd": _shifted(0.3),
    "width of every parameter x 0.8": _widened(0.8),
    "width of every parameter x 0.9": _widened(0.9),
    "width of every parameter x 1.1": _widened(1.1),
    "width of every parameter x 1.25": _widened(1.25),
    "parameters unrelated to each other": _parameters_unrelated,
    "maps unrelated to parameters": _maps_unrelated,
    "the prior as the posterior": _prior,
    "one observation in 20 has the draws of another": _bad_observations,
    "maps with normal pixels, means and sds exact": _normal_maps,
}
"""Name of a case -> what is done to exact evidence."""
