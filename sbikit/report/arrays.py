"""Values of many variables, taken apart into what is judged one by one: scalars and channels of fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from sbikit.problem.variables import Field, Vector
from sbikit.storage.posterior import HeldOut

Array = NDArray[np.floating]


def columns(vectors: Iterable[Vector], values: Mapping[str, Array]) -> Array:
    """All scalars of the vectors beside each other, (*batch, D)."""
    return np.concatenate([values[vector.name] for vector in vectors], axis=-1)


def channels(fields: Iterable[Field], held_out: HeldOut) -> Iterable[tuple[Field, int, tuple[Array, Array]]]:
    """Field, channel, truth (B, P) and draws (n, B, P) of every channel, with P pixels."""
    for one in fields:
        truth, draws = held_out.truth[one.name], held_out.draws[one.name]
        for channel in range(one.channels):
            flat = truth[:, channel].reshape(len(truth), -1)
            yield one, channel, (flat, draws[:, :, channel].reshape(len(draws), len(truth), -1))
