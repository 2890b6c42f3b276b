"""One call of a simulator, with what comes back checked."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbikit.problem.copies import copied
from sbikit.problem.errors import SbikitError, SimulationError
from sbikit.problem.variables import Values
from sbikit.roles.simulator import Simulator
from sbikit.simulations.outputs import real_tensor
from sbikit.simulations.resolution import check_resolution


def run_simulator(
    simulator: Simulator, parameters: Values, seeds: NDArray[np.int64], *, first: int = 0
) -> dict[str, Tensor]:
    """Run `simulator.simulate` and check what comes back.

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
    name = type(simulator).__name__
    theta = parameters[simulator.prior.name]

    def describe(row: int) -> str:
        values = (
            f"{label}={value:.6g}"
            for label, value in zip(simulator.prior.laws, theta[row].tolist(), strict=True)
        )
        return f"draw {first + row} ({', '.join(values)}; seed {int(seeds[row])})"

    try:
        raw = simulator.simulate(copied(parameters), seeds=seeds.copy())
    except SbikitError:
        raise
    except Exception as error:
        row = _failing_row(simulator, parameters, seeds)
        raise SimulationError(
            f"{name}.simulate raised {type(error).__name__}: {error}",
            where=describe(row) if row is not None else f"draws {first} to {first + len(theta) - 1}",
            expected="outputs for every parameter vector of the prior",
            fix="mend the simulator or narrow its prior; what was done before is kept",
        ) from error
    if not isinstance(raw, Mapping):
        raise SimulationError(
            f"{name}.simulate did not return a mapping.",
            where=f"draws {first} to {first + len(theta) - 1}",
            expected="a dictionary with " + ", ".join(v.name for v in simulator.outputs),
            got=type(raw).__name__,
            fix='return {"name": array, ...}',
        )
    outputs: dict[str, Tensor] = {}
    for variable in simulator.outputs:
        if variable.name not in raw:
            raise SimulationError(
                f"{name}.simulate did not return {variable.name!r}.",
                where=f"draws {first} to {first + len(theta) - 1}",
                expected=", ".join(v.name for v in simulator.outputs),
                got=", ".join(raw) or "nothing",
                fix="return every variable that `outputs` declares",
            )
        wide = real_tensor(raw[variable.name], variable.name, f"{name}.simulate")
        tensor = wide.to(torch.float32).clone(memory_format=torch.contiguous_format)
        expected = (len(theta), *variable.shape)
        if tuple(tensor.shape) != expected:
            raise SimulationError(
                f"{name}.simulate returned {variable.name!r} in the wrong shape.",
                where=f"draws {first} to {first + len(theta) - 1}",
                expected=f"{expected} = (draws, *{variable.name}.shape)",
                got=str(tuple(tensor.shape)),
                fix="reshape the output, or correct the variable's declaration",
            )
        check_resolution(
            variable,
            wide,
            first=first,
            where=f"{name}.simulate, draws {first} to {first + len(theta) - 1}",
        )
        finite = torch.isfinite(tensor).flatten(1).all(1)
        if not bool(finite.all()):
            row = int((~finite).nonzero()[0])
            bad = int((~torch.isfinite(tensor[row])).sum())
            raise SimulationError(
                f"{name}.simulate returned values of {variable.name!r} that are not finite.",
                where=describe(row),
                expected="finite numbers",
                got=f"{bad} of {tensor[row].numel()} values NaN or infinite",
                fix="mend the simulator there or narrow its prior; what was done before is kept",
            )
        outputs[variable.name] = tensor
    return outputs


def _failing_row(simulator: Simulator, parameters: Values, seeds: NDArray[np.int64]) -> int | None:
    """The first draw that raises when it is run alone, if there is one."""
    for row in range(len(seeds)):
        try:
            simulator.simulate(
                copied({key: value[row : row + 1] for key, value in parameters.items()}),
                seeds=seeds[row : row + 1].copy(),
            )
        except Exception:
            return row
    return None
