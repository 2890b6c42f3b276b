"""Is all randomness of a draw that of its own seed?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from sbikit.problem.variables import Values, Variable
from sbikit.testing.promises import (
    ContractError,
    same,
)

BATCH = 4  # simulations: enough that one has neighbours on either side


def check_seeding(
    variables: Sequence[Variable],
    batch: Values,
    draw: Callable[[Sequence[int], NDArray[np.int64]], Values],
    seeds: NDArray[np.int64],
    where: str,
) -> None:
    """`draw(rows, seeds)` gave `batch` for all rows: is all of its randomness that of each row's seed?"""
    again, other = draw(range(BATCH), seeds), draw(range(BATCH), seeds[::-1].copy())
    row = BATCH - 1
    alone = draw([row], seeds[row:])
    for variable in variables:
        key = variable.name
        same(again[key], batch[key], where, f"{key!r} is the same for the same seeds", like=batch[key])
        text = f"a draw of {key!r} is the same alone and in a batch"
        same(alone[key], batch[key][row:], where, text, like=batch[key])
    if all(torch.equal(other[v.name], batch[v.name]) for v in variables):
        raise ContractError(
            "Other seeds give the same outputs.",
            where=where,
            expected="randomness that comes from `seeds`",
            got="equal outputs for different seeds",
            fix="make the draws from the seeds, for example with sbikit.normals",
        )
