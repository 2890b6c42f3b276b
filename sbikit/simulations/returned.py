"""What a simulator returned for a batch, with the faults that no other draw would mend refused."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sbikit.problem.errors import SimulationError
from sbikit.problem.gaps import filled
from sbikit.roles.simulator import Simulator, method_of
from sbikit.simulations.outputs import real_tensor


def returned(simulator: Simulator, raw: object, count: int, where: str) -> dict[str, Tensor]:
    """All that a draw has, (count, *shape), in its own precision; values may be not finite.

    Args:
        simulator: what returned it.
        raw: what it returned.
        count: how many draws were asked for.
        where: the draws, for messages.

    Raises:
        SimulationError: it is no mapping, or an output is missing, complex, masked or of the wrong shape.
    """
    method = method_of(simulator)
    if not isinstance(raw, Mapping):
        raise SimulationError(
            f"{method} did not return a mapping.",
            where=where,
            expected="a dictionary with " + ", ".join(v.name for v in simulator.outputs),
            got=type(raw).__name__,
            fix='return {"name": array, ...}',
        )
    outputs: dict[str, Tensor] = {}
    for variable in simulator.outputs:
        if variable.name not in raw:
            raise SimulationError(
                f"{method} did not return {variable.name!r}.",
                where=where,
                expected=", ".join(v.name for v in simulator.outputs),
                got=", ".join(raw) or "nothing",
                fix="return every variable that `outputs` declares",
            )
        tensor = real_tensor(raw[variable.name], variable.name, method)
        expected = (count, *variable.shape)
        if tuple(tensor.shape) != expected:
            raise SimulationError(
                f"{method} returned {variable.name!r} in the wrong shape.",
                where=where,
                expected=f"{expected} = (draws, *{variable.name}.shape)",
                got=str(tuple(tensor.shape)),
                fix="reshape the output, or correct the variable's declaration",
            )
        outputs[variable.name] = tensor
    return filled(outputs, simulator.outputs)


def finite_rows(outputs: Mapping[str, Tensor]) -> Tensor:
    """(B,) bool: whether all values of a row are finite, of outputs (B, *shape)."""
    return torch.stack([_finite(tensor.flatten(1)) for tensor in outputs.values()]).all(0)


def _finite(rows: Tensor) -> Tensor:
    """(B,) of (B, n): extremes are found nine times faster than each value is looked at, and NaN is one."""
    if not rows.dtype.is_floating_point:
        return torch.ones(len(rows), dtype=torch.bool, device=rows.device)
    return rows.amin(1).isfinite() & rows.amax(1).isfinite()
