"""The joint test: many quantities that are each a little off.

The statistic is the sum over quantities of the squared shift and spread, each in units of its standard
deviation under an exact posterior (for dependence the shift alone). Quantities of one observation are
correlated, so tables of chi squared do not apply. Its null is made from the evidence: under an exact
posterior any of truth and draws may stand in for the truth, and the statistic's rank among those of many such
replacements is an exact p-value (Davison and Hinkley 1997, section 4.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbikit import generator
from sbikit_calibration.ranks.scores import normal_scores

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Joint:
    """The joint statistic.

    Args:
        value: the statistic over its number of terms.
        ideal: its mean under an exact posterior.
        error: its standard deviation there.
        p: probability of a value at least as large there.
    """

    value: float
    ideal: float
    error: float
    p: float


def joint(ranks: Sequence[Integers], with_spread: Sequence[bool], count: int, seed: int) -> Joint:
    """Judge all quantities together.

    Args:
        ranks: of every member of truth (entry 0) and draws, (B, n + 1) a quantity.
        with_spread: of every quantity, whether its spread counts, too.
        count: replacements that make the null.
        seed: fixes them.
    """
    terms = _terms(ranks, with_spread)
    B, members = ranks[0].shape
    stand_in = torch.randint(members, (B, count), generator=generator(seed))
    stand_in = torch.cat([torch.zeros(B, 1, dtype=torch.int64), stand_in], 1)
    sums = torch.zeros(len(terms), count + 1)
    for b in range(B):
        sums += terms[:, b].index_select(-1, stand_in[b])
    found = (sums.double().square() / B).mean(0)
    value, null = float(found[0]), found[1:]
    p = (1 + int((null >= value * (1 - 1e-6)).sum())) / (1 + count)
    return Joint(value, float(null.mean()), float(null.std()), p)


def _terms(ranks: Sequence[Integers], with_spread: Sequence[bool]) -> Tensor:
    """Scores of all quantities with mean 0 and variance 1 over uniform ranks, (terms, B, n + 1), float32."""
    z = normal_scores(ranks[0].shape[1] - 1)
    shift, spread = (_standardised(scores) for scores in (z, z**2))
    terms = [shift[r] for r in ranks] + [
        spread[r] for r, wanted in zip(ranks, with_spread, strict=True) if wanted
    ]
    return torch.from_numpy(np.stack(terms))


def _standardised(scores: NDArray[np.float64]) -> NDArray[np.float32]:
    centred = scores - scores.mean()
    sd = float(centred.std())
    return (centred / (sd or 1.0)).astype(np.float32)
