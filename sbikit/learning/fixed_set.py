"""A fixed number of joint draws to train on: batches, epoch by epoch, and the draws that judge.

The last draws judge and never train. From the second epoch on the observables of the others have other noise
where the simulator can draw it; those that judge keep theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor

from sbikit.learning.fresh_noise import FreshNoise
from sbikit.learning.shuffled import BUDGET, Shuffled
from sbikit.problem.variables import Values
from sbikit.roles.joint_draws import JointDraws

# Draws that judge, where a fifth of a set is as many: the loss of fewer is no guide to when to stop. More
# leave fewer to train on.
_LEAST_JUDGES = 100
# Of the budget, what the draws that judge may take before they are read anew for every look.
_JUDGES_SHARE = 0.25
# Draws that judge at once: more need more memory. No result depends on it but by rounding.
_AT_ONCE = 1024


def validation_size(count: int, fraction: float) -> int:
    """How many of the draws judge: of a small set more than `fraction`, up to a fifth."""
    return max(1, round(fraction * count), min(_LEAST_JUDGES, count // 5))


class FixedSet:
    """Kept draws 0 to count - 1; the last ones judge.

    Args:
        simulations: where they come from.
        count: how many are used.
        judges: how many of them judge.
        batch: draws a step.
        seed: fixes order and noise.
        prepare: what becomes of draws (B, *shape) before they are used, row by row.
        budget: numbers held at once.
    """

    def __init__(
        self,
        simulations: JointDraws,
        *,
        count: int,
        judges: int,
        batch: int,
        seed: int,
        prepare: Callable[[Values], Values] = dict,
        budget: int = BUDGET,
    ) -> None:
        self.training, self.judges = count - judges, judges
        self._noise = FreshNoise.offered(simulations.simulator, simulations.training(0, 1), seed)
        self._prepare, self._simulations = prepare, simulations
        read = self._prepared if self._noise is None else simulations.training
        self._rows = Shuffled(read, self.training, batch=batch, seed=seed, budget=budget)
        self._budget = budget
        self._judging: list[Values] | None = None

    @property
    def fresh_noise(self) -> bool:
        """Whether every epoch sees other noise."""
        return self._noise is not None

    @property
    def batches(self) -> int:
        """Steps of an epoch."""
        return self._rows.batches

    def used(self, step: int) -> int:
        """Simulations used before a step: all of them."""
        del step
        return self.training + self.judges

    def rows(self, step: int) -> int:
        """Draws of a step; fewer at the end of an epoch."""
        return self._rows.rows(step)

    def batch(self, step: int, first: int = 0, count: int | None = None) -> Values:
        """What a step trains on, each (B, *shape); it depends on the seed and the step alone.

        Args:
            step: from 0.
            first, count: which of its draws; all of them where left out.
        """
        found = self._rows.batch(step).part(first, count)
        if self._noise is None:
            return found.values
        fresh = self._noise(found.values, found.numbers, found.epoch) if found.epoch else found.values
        return self._prepare(fresh)

    def judging(self) -> Iterator[Values]:
        """The draws that judge, in chunks, each (B, *shape)."""
        if self._judging is not None:
            yield from self._judging
            return
        one = self._rows.apart(self._prepared, self.training, 1)
        numbers = sum(value.numel() for value in one.values())
        at_once = max(1, min(_AT_ONCE, int(_JUDGES_SHARE * self._budget) // max(1, numbers)))
        kept: list[Values] | None = [] if numbers * self.judges <= _JUDGES_SHARE * self._budget else None
        for first in range(self.training, self.training + self.judges, at_once):
            count = min(at_once, self.training + self.judges - first)
            chunk = self._rows.apart(self._prepared, first, count)
            if kept is not None:
                kept.append(chunk)
            yield chunk
        self._judging = kept

    def _prepared(self, first: int, count: int) -> dict[str, Tensor]:
        return dict(self._prepare(self._simulations.training(first, count)))
