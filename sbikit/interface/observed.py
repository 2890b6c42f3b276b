"""An observation as somebody has it at hand: arrays of any library, one observation or many."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sbikit.problem.errors import ObservationError
from sbikit.problem.spec import Spec
from sbikit.problem.variables import Values
from sbikit.storage.observation import checked_observation, shapes_of

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
    arrays = {spec[name]: array for name, array in _arrays(observation, spec).items()}
    found = checked_observation(arrays, masks, _WHERE)
    return found, all(array.shape in shapes_of(variable) for variable, array in arrays.items())


def _arrays(observation: Any, spec: Spec) -> dict[str, NDArray[Any]]:
    names = [v.name for v in spec.measured]
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
    told = [v.name for v in spec.observables if v.tells and v.name in observation]
    return {name: _array(observation[name]) for name in (*names, *told)}


def _array(value: Any) -> NDArray[Any]:
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
