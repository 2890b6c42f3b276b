"""Which draws of a store failed, why, and where in the space of the parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sbikit.problem.prior import Prior
from sbikit.simulations.layout import GOOD, KINDS, MISSING, SMALL_ROWS, array_of
from sbikit.simulations.store import Store

_BINS = 12  # of equal probability under the prior: a tenth of 1000 draws leaves 8 failures a bin
_EXAMPLES = 5  # of each kind


def failing(store: Store, prior: Prior, count: int) -> dict[str, Any]:
    """Failures among the first `count` draws, as plain values that JSON can hold.

    Returns:
        "examples": draw, kind, reason and parameters of some failures of each kind; "where": for every
        parameter the bounds of bins that are equally probable under the prior, the lowest and highest draw at
        the ends, and how many draws were tried and failed in each.
    """
    tried = {label: np.zeros(_BINS, dtype=np.int64) for label in prior.laws}
    failed = {label: np.zeros(_BINS, dtype=np.int64) for label in prior.laws}
    low, high = np.full(len(prior.laws), np.inf), np.full(len(prior.laws), -np.inf)
    for first in range(0, count, SMALL_ROWS):
        last = min(first + SMALL_ROWS, count)
        status = store.small("status", first, last)
        theta = parameters(store, first, last)[status != MISSING]
        bad = status[status != MISSING] != GOOD
        low, high = np.minimum(low, theta.min(0)), np.maximum(high, theta.max(0))
        for column, label in zip(_bins(prior, theta).T, prior.laws, strict=True):
            tried[label] += np.bincount(column, minlength=_BINS)
            failed[label] += np.bincount(column[bad], minlength=_BINS)
    inner = prior.from_white(_inner_bounds()[:, None].expand(-1, len(prior.laws))).numpy()
    edges = np.concatenate([low[None], inner, high[None]]).T
    return {
        "examples": _examples(store, prior, count),
        "where": {
            label: {"edges": edge.tolist(), "tried": tried[label].tolist(), "failed": failed[label].tolist()}
            for label, edge in zip(prior.laws, edges, strict=True)
        },
    }


def parameters(store: Store, first: int, last: int) -> NDArray[np.float64]:
    """Parameters of draws, (last - first, D)."""
    found = store.arrays[array_of(store.variables[0])][first:last]
    return np.asarray(found, dtype=np.float64)


def _inner_bounds() -> torch.Tensor:
    """Bounds between the bins in white coordinates, (_BINS - 1,)."""
    return torch.special.ndtri(torch.arange(1, _BINS, dtype=torch.float64) / _BINS)


def _bins(prior: Prior, theta: NDArray[np.float64]) -> NDArray[np.int64]:
    """Bin of every parameter of draws (n, D), (n, D)."""
    uniform = torch.special.ndtr(prior.to_white(torch.from_numpy(theta))).numpy()
    return np.clip((uniform * _BINS).astype(np.int64), 0, _BINS - 1)


def _examples(store: Store, prior: Prior, count: int) -> list[dict[str, Any]]:
    status = store.status(count)
    found = []
    for code, kind in KINDS.items():
        for row in np.flatnonzero(status == code)[:_EXAMPLES].tolist():
            values = parameters(store, row, row + 1)[0].tolist()
            named = dict(zip(prior.laws, values, strict=True))
            found += [{"draw": row, "kind": kind, "reason": store.reasons.of(row), "parameters": named}]
    return found
