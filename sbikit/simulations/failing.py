"""Which draws failed, why, and where in the space of the parameters: of a store, and of endless streams."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sbikit.problem.prior import Prior
from sbikit.simulations.layout import GOOD, KINDS, MISSING, SMALL_ROWS, array_of
from sbikit.simulations.left_out import LeftOut
from sbikit.simulations.store import Store

_BINS = 12  # of equal probability under the prior: a tenth of 1000 draws leaves 8 failures a bin
_ENDS = 1e-3  # probability beyond the outer bounds, which are infinite for some laws
_EXAMPLES = 5  # of each kind


def failing_in_store(store: Store, prior: Prior, count: int) -> dict[str, Any]:
    """Failures among the first `count` draws of a store, as plain values that JSON can hold.

    Returns:
        "examples": draw, kind, reason and parameters of some failures of each kind; "where": for every
        parameter the bounds of bins that are equally probable under the prior, and how many draws were tried
        and failed in each.
    """
    tried = np.zeros((len(prior.laws), _BINS), dtype=np.int64)
    failed = np.zeros_like(tried)
    for first in range(0, count, SMALL_ROWS):
        last = min(first + SMALL_ROWS, count)
        status = store.small("status", first, last)
        theta = _parameters(store, first, last)
        tried += _counts(prior, theta[status != MISSING])
        failed += _counts(prior, theta[(status != MISSING) & (status != GOOD)])
    return {"examples": _examples(store, prior, count), "where": _where(prior, tried, failed)}


def failing_in_streams(left_out: LeftOut, prior: Prior) -> dict[str, Any]:
    """The same of endless streams, whose attempts follow the prior, and of which failures alone are kept.

    Returns:
        As above, where draws that were tried are what the prior expects; and "tried" and "failures", how many
        attempts there were, and failed of each kind.
    """
    records = left_out.records
    theta = np.array([[one.parameters[label] for label in prior.laws] for one in records])
    # Of very many failures the first are kept; the others are taken to be alike.
    failed = _counts(prior, theta) * (left_out.failed / max(len(records), 1))
    tried = np.full(failed.shape, left_out.tried / _BINS)
    shown = [one for kind in left_out.kinds for one in [r for r in records if r.kind == kind][:_EXAMPLES]]
    examples = [
        {
            "draw": one.draw,
            "stream": one.stream,
            "kind": one.kind,
            "reason": one.words,
            "parameters": dict(one.parameters),
        }
        for one in shown
    ]
    return {
        "tried": left_out.tried,
        "failures": dict(left_out.kinds),
        "examples": examples,
        "where": _where(prior, tried, failed),
    }


def _where(prior: Prior, tried: NDArray[Any], failed: NDArray[Any]) -> dict[str, Any]:
    shares = torch.arange(_BINS + 1, dtype=torch.float64) / _BINS
    white = torch.special.ndtri(shares.clamp(_ENDS, 1.0 - _ENDS))
    edges = prior.from_marginal(white[:, None].expand(-1, len(prior.laws))).T
    return {
        label: {"edges": edges[i].tolist(), "tried": tried[i].tolist(), "failed": failed[i].tolist()}
        for i, label in enumerate(prior.laws)
    }


def _counts(prior: Prior, theta: NDArray[np.float64]) -> NDArray[np.int64]:
    """How many of the draws (n, D) fall into each bin of each parameter, (D, _BINS)."""
    uniform = torch.special.ndtr(
        prior.to_marginal(torch.from_numpy(theta.reshape(-1, len(prior.laws))))
    ).numpy()
    bins = np.clip((uniform * _BINS).astype(np.int64), 0, _BINS - 1)
    return np.stack([np.bincount(column, minlength=_BINS) for column in bins.T])


def _parameters(store: Store, first: int, last: int) -> NDArray[np.float64]:
    return store.arrays[array_of(store.variables[0])].read(first, last).astype(np.float64)


def _examples(store: Store, prior: Prior, count: int) -> list[dict[str, Any]]:
    status = store.status(count)
    found = []
    for code, kind in KINDS.items():
        for row in np.flatnonzero(status == code)[:_EXAMPLES].tolist():
            values = _parameters(store, row, row + 1)[0].tolist()
            named = dict(zip(prior.laws, values, strict=True))
            found += [{"draw": row, "kind": kind, "reason": store.reasons.of(row), "parameters": named}]
    return found
