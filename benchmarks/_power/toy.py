"""Exact draws of parameters and skewed maps: a Gaussian field whose values are transformed pixel by pixel.

The field g of `GaussianField` becomes f = exp(a g) - 1, truth and draws alike: a function of exact draws
is an exact draw of the function.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sbikit import Evidence, Simulations, Values
from sbikit.testing import GaussianField, gather_evidence

AMPLITUDE = 0.7  # maps of unit variance become log-normal with a skewness of some 3
TRAINING = 2048  # what a run gives its validators


def exact_evidence(observations: int, draws: int, seed: int) -> Evidence:
    """Evidence of exact draws; all of it depends on the seed."""
    toy = GaussianField()
    found = gather_evidence(
        toy, toy.exact_sampler(), observations=observations, draws=draws, training=TRAINING, seed=seed
    )
    return Evidence(
        found.spec,
        _transformed(found.truth),
        found.observation,
        _transformed(found.draws),
        _transformed(found.training),
    )


def prior_draws(observations: int, draws: int, seed: int) -> dict[str, Tensor]:
    """Draws of the prior for every observation, each (draws, observations, *shape)."""
    drawn = Simulations(GaussianField(), seed).training(0, draws * observations)
    return {
        name: value.unflatten(0, (draws, observations))
        for name, value in _transformed(drawn).items()
        if name in ("theta", "field")
    }


def to_gaussian(field: Tensor) -> Tensor:
    """g of f."""
    return torch.log1p(field) / AMPLITUDE


def _transformed(values: Values) -> dict[str, Tensor]:
    return {**values, "field": torch.expm1(AMPLITUDE * values["field"])}
