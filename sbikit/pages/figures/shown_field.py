"""One channel of a latent field, as figures of it take it."""

from __future__ import annotations

from dataclasses import dataclass

from sbikit.pages.arrays import Array
from sbikit.problem.variables import Field


@dataclass(frozen=True)
class FieldSummary:
    """A map of the data alone that estimates a latent field.

    Args:
        label: its name, as matplotlib sets it.
        values: (*grid).
    """

    label: str
    values: Array


@dataclass(frozen=True)
class ShownField:
    """One channel of a latent field for the shown observation.

    Args:
        field: the field.
        channel: which channel the arrays are.
        draws: (n, *grid), n at least 2.
        truth: (*grid), if known.
        reference: draws of an exact sampler (m, *grid), if any.
        summaries: the maps that estimate this channel from the data alone.
    """

    field: Field
    channel: int
    draws: Array
    truth: Array | None = None
    reference: Array | None = None
    summaries: tuple[FieldSummary, ...] = ()
