"""A simulator of one draw at a time: a batch is made of its draws, each with its own random numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbikit.problem.errors import PluginError
from sbikit.problem.prior import Prior
from sbikit.problem.variables import Values, Variable

One = Callable[[Mapping[str, float], np.random.Generator], Mapping[str, Any]]
"""Parameters by label, and where random numbers come from -> every output of one draw."""


def simulate_each(
    one: One,
    prior: Prior,
    outputs: Sequence[Variable],
    parameters: Values,
    *,
    seeds: NDArray[np.int64],
    where: str,
) -> Mapping[str, Tensor | NDArray[Any]]:
    """Draws one after the other; what is no mapping, or lacks an output, goes back so, and whoever runs the
    simulator refuses it as that of a batch.

    Args:
        one: makes a draw.
        prior: names the parameters.
        outputs: what a draw has, each of its variable's shape; the axis of a single channel, or of a vector
            of one number, may be left out.
        parameters: `{prior.name: (B, D)}`.
        seeds: (B,), of which each draw's generator is made.
        where: the method that makes a draw, for messages.

    Returns:
        Every output, (B, *shape).

    Raises:
        PluginError: an output of a draw has another shape.
    """
    labels = prior.variable.labels
    rows = parameters[prior.name].tolist()
    draws = [
        one(dict(zip(labels, row, strict=True)), np.random.default_rng(int(seed)))
        for row, seed in zip(rows, seeds, strict=True)
    ]
    for draw in draws:
        if not isinstance(draw, Mapping):
            return draw
    there = [v for v in outputs if all(v.name in draw for draw in draws)]
    return {v.name: _stacked([_of_shape(draw[v.name], v, where) for draw in draws], v) for v in there}


def _of_shape(found: Any, variable: Variable, where: str) -> Any:
    """One output of a draw, whose shape is that of the variable, or that without the axis of a channel."""
    shape = tuple(found.shape) if isinstance(found, Tensor) else np.shape(found)
    if shape not in {variable.shape, variable.shape[variable.shape[0] == 1 :]}:
        raise PluginError(
            f"{where} returned {variable.name!r} in the wrong shape.",
            where=where,
            expected=f"{variable.shape} = {variable.name}.shape, of one draw",
            got=str(shape),
            fix="reshape the output, or correct the variable's declaration",
        )
    return found


def _stacked(found: Sequence[Any], variable: Variable) -> Tensor | NDArray[Any]:
    """One output of all draws, (B, *shape)."""
    shape = (len(found), *variable.shape)
    if all(isinstance(each, Tensor) for each in found):
        return torch.stack(list(found)).reshape(shape)
    masked = any(np.ma.is_masked(each) for each in found)
    arrays = [each.detach().cpu() if isinstance(each, Tensor) else each for each in found]
    together: NDArray[Any] = np.ma.stack(arrays) if masked else np.stack(arrays)
    return together.reshape(shape)
