"""MIRA with distances as arXiv:2606.31988 takes them: of all latents in one vector, in their own units."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sbikit import Values, generator
from sbikit_calibration.coverage.distance import excess
from sbikit_calibration.coverage.mira import mean_score, score


def raw_mira(
    truth: Values, read: Callable[[int], Values], training: Values, *, centres: int, seed: int
) -> tuple[float, float]:
    """MIRA of latents together, and its standard error.

    Centres are prior draws and the score is the closed form of `sbikit_calibration`; only distances are that
    paper's. In their own units a map of many pixels outweighs parameters, of which it says next to nothing.

    Args:
        truth: of the latents, each (O, *shape).
        read: draws of an observation, each (S, *shape).
        training: simulations, some of which are centres, each (M, *shape).
        centres: an observation.
        seed: which.
    """
    names = list(truth)
    source, rows = generator(seed), []
    for b in range(len(truth[names[0]])):
        own = torch.randint(len(training[names[0]]), (centres,), generator=source)
        draws = _together(read(b), names)
        far = excess(
            _together({n: truth[n][b : b + 1] for n in names}, names)[0],
            draws,
            _together({n: training[n][own] for n in names}, names),
        )
        rows.append(score((far < 0).sum(-1), len(draws)))
    return mean_score(torch.stack(rows))


def _together(values: Values, names: Sequence[str]) -> Tensor:
    """(n, numbers) of values (n, *shape)."""
    return torch.cat([values[name].flatten(1) for name in names], 1)
