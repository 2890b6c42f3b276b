"""An observation as somebody has it at hand: arrays of any library, one observation or many."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sbikit.problem.errors import ObservationError
from sbikit.problem.spec import Spec
from sbikit.problem.variables import Values, Variable

_WHERE = "observation"


def batch_of(observation: Any, spec: Spec, masks: Values) -> tuple[dict[str, torch.Tensor], bool]:
    """The observed variables of one observation or of many.

    Args:
        observation: variable -> array, of one observation, (*shape), or of B, (B, *shape); an array alone
            where one variable is observed. The axis of a single channel may be left out.
        spec: says which observables are wanted.
        masks: of some of them, where they are observed; what the arrays hold elsewhere is taken for 0.

    Returns:
        Float32 tensors (B, *shape), and whether they are of one observation without an axis for it.

    Raises:
        ObservationError: a variable is missing, of the wrong shape or not finite.
    """
    arrays = _arrays(observation, spec)
    found = {v.name: _values(arrays[v.name], v, masks.get(v.name)) for v in spec.observables}
    counts = {name: len(value) for name, (value, _) in found.items()}
    alone = {single for _, single in found.values()}
    if len(set(counts.values())) > 1 or len(alone) > 1:
        raise ObservationError(
            "The observables are not of the same observations.",
            where=_WHERE,
            expected="one observation of each, or as many of each",
            got=", ".join(f"{name}: {count}" for name, count in counts.items()),
        )
    return {name: value for name, (value, _) in found.items()}, alone == {True}


def _arrays(observation: Any, spec: Spec) -> dict[str, NDArray[Any]]:
    names = [v.name for v in spec.observables]
    if not isinstance(observation, Mapping):
        if len(names) > 1:
            raise ObservationError(
                f"One array is given, and {len(names)} variables are observed.",
                where=_WHERE,
                expected="a mapping with " + ", ".join(names),
                got=type(observation).__name__,
            )
        observation = {names[0]: observation}
    missing = [name for name in names if name not in observation]
    if missing:
        raise ObservationError(
            f"The observable {missing[0]!r} is missing.",
            where=_WHERE,
            expected=", ".join(names),
            got=", ".join(map(str, observation)) or "nothing",
        )
    return {name: _array(observation[name], name) for name in names}


def _array(value: Any, name: str) -> NDArray[Any]:
    array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise _not_finite(name, f"values of type {array.dtype}")
    return array


def _values(array: NDArray[Any], variable: Variable, mask: torch.Tensor | None) -> tuple[torch.Tensor, bool]:
    """(B, *shape), and whether the array was of one observation."""
    shapes = [variable.shape, *([variable.shape[1:]] if variable.shape[0] == 1 else [])]
    single = array.shape in shapes
    if not single and array.shape[1:] not in shapes:
        raise ObservationError(
            f"The observable {variable.name!r} has the wrong shape.",
            where=f"{_WHERE}[{variable.name!r}]",
            expected=f"{variable.shape}, or (B, {', '.join(map(str, variable.shape))}) of B observations",
            got=str(array.shape),
            fix="reorder, cut or pad the data, or set the simulator's grid to the data's",
        )
    with np.errstate(over="ignore"):
        values = np.array(array, dtype=np.float32).reshape(-1, *variable.shape)
    if mask is not None:
        values[:, ~mask.numpy()] = 0.0
    if not len(values):
        raise ObservationError("There is no observation.", where=_WHERE, expected="one at least", got="none")
    bad = int((~np.isfinite(values)).sum())
    if bad:
        raise _not_finite(variable.name, f"{bad} of {values.size} values are NaN or beyond single precision")
    return torch.from_numpy(values), single


def _not_finite(name: str, got: str) -> ObservationError:
    return ObservationError(
        f"The observable {name!r} has values that are not finite numbers.",
        where=f"{_WHERE}[{name!r}]",
        expected="finite numbers",
        got=got,
        fix="fill what is missing as the simulator does; where data can be missing, let the simulator say so "
        "(sbikit.SupportsMasks), so that what is trained has seen such data",
    )
