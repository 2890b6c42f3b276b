"""A training that diverges is ended: more steps would make nothing better, and what it has kept stays."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from sbikit.problem.errors import TrainingError

_KEPT = "; what was kept before stays, and the same options would diverge again"


def check_finite(loss: float, norm: float, step: int, remedy: str) -> None:
    """Refuse a step whose loss or gradient is not finite.

    Args:
        loss: of the step.
        norm: of its gradient.
        step: its number.
        remedy: what to do about it.

    Raises:
        TrainingError: it is not.
    """
    if math.isfinite(loss) and math.isfinite(norm):
        return
    raise TrainingError(
        "The training diverged.",
        where=f"step {step:,}",
        expected="a finite loss and a finite gradient",
        got=f"a loss of {loss:.4g}, a gradient of norm {norm:.4g}",
        fix=remedy + _KEPT,
    )


def check_risen(losses: Sequence[float], most: float, step: int, remedy: str) -> None:
    """Refuse losses that have risen too far.

    Args:
        losses: of the steps of a round; their median counts, which no single batch decides.
        most: what it may be.
        step: the last of these steps.
        remedy: what to do about it.

    Raises:
        TrainingError: it is larger.
    """
    middle = statistics.median(losses)
    if middle <= most:
        return
    raise TrainingError(
        "The training diverged: its loss has risen far above its start.",
        where=f"steps {step - len(losses):,} to {step - 1:,}",
        expected=f"a median loss of at most {most:.4g}",
        got=f"{middle:.4g}",
        fix=remedy + _KEPT,
    )
