"""Judged draws and the two halves of the exact ones, which every figure is measured on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Maps: TypeAlias = NDArray[np.floating]

_S = TypeVar("_S")
_T = TypeVar("_T")
_U = TypeVar("_U")


@dataclass(frozen=True)
class Trio(Generic[_T]):
    """The judged draws of one observation and the two halves of its exact ones, or what was made of each."""

    draws: _T
    first: _T
    second: _T

    def map(self, make: Callable[[_T], _S]) -> Trio[_S]:
        """`make` of each."""
        return Trio(make(self.draws), make(self.first), make(self.second))

    def join(self, other: Trio[_S], make: Callable[[_T, _S], _U]) -> Trio[_U]:
        """`make` of each and its partner."""
        return Trio(
            make(self.draws, other.draws), make(self.first, other.first), make(self.second, other.second)
        )

    def compare(self, measure: Callable[[_T, _T], Floats]) -> Floats:
        """`measure(judged, reference)` -> (*F): the figure and its floor, (2, *F)."""
        against_halves = measure(self.draws, self.first) + measure(self.draws, self.second)
        return np.stack([0.5 * against_halves, measure(self.first, self.second)])


def side_by_side(parts: Sequence[Trio[Floats]]) -> Trio[Floats]:
    """Columns of all parts, (n, sum of columns) each."""
    return Trio(
        np.concatenate([part.draws for part in parts], -1),
        np.concatenate([part.first for part in parts], -1),
        np.concatenate([part.second for part in parts], -1),
    )
