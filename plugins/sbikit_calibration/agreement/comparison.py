"""The draws to compare: what is refused, and how they are taken apart observation by observation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from sbikit import (
    Comparison,
    ComparisonBlock,
    Evidence,
    SpecError,
    StoredDraws,
    check_shapes,
    check_values,
    draw_shapes,
)
from sbikit_calibration.agreement.trio import Maps, Trio

FEWEST_DRAWS = 8  # in a half: with 5 or fewer a central 68 % interval ends beyond the outermost draws
FEWEST_OBSERVATIONS = 2  # one has no scatter between observations, so no figure an error


def check_comparison(evidence: Evidence) -> Comparison:
    """The comparison of the evidence.

    Raises:
        SpecError: there is none, it is too small, or a variable is missing, of the wrong shape or not finite.
    """
    comparison = evidence.comparison
    if comparison is None:
        raise SpecError(
            "There are no draws of an exact sampler to compare with.",
            where="evidence.comparison",
            expected="draws of an exact sampler for some held-out observations",
            got="nothing",
            fix="name an exact sampler: --reference",
        )
    first, R = evidence.spec.latents[0], len(comparison.rows)
    _check_count("observations whose exact draws can be trusted", R, FEWEST_OBSERVATIONS, "observations")
    for values, what, least in (
        (comparison.exact, "exact", 2 * FEWEST_DRAWS),
        (comparison.draws, "draws", FEWEST_DRAWS),
    ):
        shapes, where = draw_shapes(values), f"evidence.comparison.{what}"
        n = (*shapes.get(first.name, ()), 0)[0]
        _check_count(f"draws an observation in {what!r}", n, least, "draws")
        check_shapes(shapes, evidence.spec.latents, (n, R), where)
        if not isinstance(values, StoredDraws):  # of those every block is looked at when it is read
            check_values(values, evidence.spec.latents, (n, R), where)
    return comparison


def _check_count(what: str, got: int, least: int, more: str) -> None:
    if got < least:
        raise SpecError(
            f"Too few {what}.",
            where="evidence.comparison",
            expected=f"{least} or more",
            got=str(got),
            fix=f"ask the reference for more {more}",
        )


@dataclass(frozen=True)
class Halves:
    """Picks n draws each from the judged and from both halves of the exact ones, evenly spaced."""

    count: int
    half: int

    @classmethod
    def of(cls, comparison: Comparison, name: str) -> Halves:
        exact, draws = (draw_shapes(values)[name][0] for values in (comparison.exact, comparison.draws))
        return cls(min(exact // 2, draws), exact // 2)

    def pick(self, block: ComparisonBlock, name: str, i: int, channel: int | None = None) -> Trio[Maps]:
        """Draws of observation i of a block, (n, *shape), of one channel where one is named."""
        exact, draws = (
            values[name][:, i] if channel is None else values[name][:, i, channel]
            for values in (block.exact, block.draws)
        )
        return Trio(
            self._some(draws),
            self._some(exact[: self.half]),
            self._some(exact[self.half : 2 * self.half]),
        )

    def _some(self, values: Tensor) -> Maps:
        rows = np.linspace(0, len(values) - 1, self.count).round().astype(int)
        return np.ascontiguousarray(values.numpy()[rows])
