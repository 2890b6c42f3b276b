"""A training that is to take so long: how many steps these are is measured at its start."""

from __future__ import annotations

from dataclasses import dataclass

# Of the time, the share in which steps are measured, and thrown away: less tells their rate worse, above all
# on GPUs, whose first steps are slow. The first half of them is not counted.
MEASURED = 0.01
LEAST_MEASURED = 2  # steps, one of which counts: a first step alone may take many times a later one's
_MOST_STEPS = 10**8


@dataclass(frozen=True)
class Duration:
    """How long a training is to take, in place of how many steps.

    Args:
        seconds: wall time of its steps and of what is judged after rounds.
    """

    seconds: float

    def steps(self, spent: float, a_step: float) -> int:
        """How many steps are left of it, at least one.

        Args:
            spent: seconds that are gone.
            a_step: seconds that a step takes.
        """
        return max(1, min(_MOST_STEPS, int((self.seconds - spent) / a_step)))
