"""Values of many vectors beside each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from sbikit.problem.variables import Vector

Array = NDArray[np.floating]


def columns(vectors: Iterable[Vector], values: Mapping[str, Array]) -> Array:
    """All scalars of the vectors beside each other, (*batch, D)."""
    return np.concatenate([values[vector.name] for vector in vectors], axis=-1)
