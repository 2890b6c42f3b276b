"""Does a plug-in leave alone what is not its own: its arguments, and what it has returned before?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbikit.problem.variables import Values
from sbikit.simulations.outputs import real_tensor
from sbikit.testing.promises import ContractError, clone, sbikit_errors_are_broken_promises, unchanged

Call: TypeAlias = Callable[[Values, NDArray[np.int64]], Mapping[str, object]]
"""Arguments, each (B, *shape), and B seeds -> arrays by name."""


def check_memory(call: Call, arguments: Values, seeds: NDArray[np.int64], where: str) -> None:
    """Call twice, the second time with the rows in reverse; nothing else may change.

    Raises:
        ContractError: an argument was changed, or what the first call returned.
    """
    first = _called(call, clone(arguments), seeds, where)
    before = {name: _tensor(raw, name, where).clone() for name, raw in first.items()}
    upside_down = {name: value.flip(0) for name, value in arguments.items()}
    _called(call, upside_down, seeds[::-1].copy(), where)
    for name, value in before.items():
        if not torch.allclose(_tensor(first[name], name, where), value, rtol=0.0, atol=0.0, equal_nan=True):
            raise ContractError(
                f"The next call overwrites the {name!r} that the last one returned.",
                where=where,
                expected="arrays of its own for every call",
                got="the same memory, used again",
                fix="make a new array in every call, or return a copy",
            )


def _called(call: Call, arguments: Values, seeds: NDArray[np.int64], where: str) -> Mapping[str, object]:
    given, kept = clone(arguments), seeds.copy()
    found = call(arguments, seeds)
    unchanged(arguments, given, where)
    if not np.array_equal(seeds, kept):
        raise ContractError("The argument 'seeds' is changed in place.", where=where, fix="work on a copy")
    return found


def _tensor(raw: object, name: str, where: str) -> Tensor:
    with sbikit_errors_are_broken_promises(where):
        return real_tensor(raw, name, where)
