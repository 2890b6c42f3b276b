"""One call of a simulator, with what comes back checked."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sbikit.problem.variables import Values
from sbikit.roles.simulator import Simulator
from sbikit.simulations.tried import try_batch


def run_simulator(
    simulator: Simulator, parameters: Values, seeds: NDArray[np.int64], *, first: int = 0
) -> dict[str, Tensor]:
    """Run `simulator.simulate` and check what comes back; no draw may fail.

    The simulator gets copies and its outputs are copied: it may change what it gets, and use its own memory
    again.

    Args:
        simulator: the simulator.
        parameters: (B, D).
        seeds: (B,).
        first: index of the first draw, for messages.

    Returns:
        The outputs as contiguous float32 tensors of their own, each (B, *shape).

    Raises:
        SimulationError: it raised, or an output is missing, of the wrong shape, complex or not finite;
            the message names the draw and its parameters. Or float32 does not resolve an output, or its
            values lie outside of its support.
    """
    tried = try_batch(simulator, parameters, seeds, np.arange(first, first + len(seeds)))
    if tried.alone is not None:
        raise tried.alone
    for row in sorted(tried.failures):
        raise tried.failures[row].error
    return tried.outputs
