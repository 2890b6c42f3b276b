"""Is all randomness of a draw that of its own seed?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sbikit.problem.variables import Values, Variable
from sbikit.simulations import seeding
from sbikit.simulations.seeding import Draw
from sbikit.testing.promises import (
    another_global_random_state,
    same,
    sbikit_errors_are_broken_promises,
)

BATCH = 4  # simulations: enough that one has neighbours on either side


def check_seeding(
    variables: Sequence[Variable], batch: Values, draw: Draw, seeds: NDArray[np.int64], where: str
) -> bool:
    """`draw(rows, seeds)` gave `batch` for all rows: is all of its randomness that of each row's seed?

    Returns:
        Whether another seed gives another draw.
    """

    with sbikit_errors_are_broken_promises(where):
        noisy = seeding.check_seeding(variables, batch, draw, seeds, where)
    with another_global_random_state():
        again = draw(range(BATCH), seeds)
    for variable in variables:
        expected = batch[variable.name]
        text = f"{variable.name!r} is the same for the same seeds, whatever the global random state"
        same(again[variable.name], expected, where, text, like=expected)
    return noisy
