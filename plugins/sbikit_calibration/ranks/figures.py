"""Figures of one quantity's ranks: shift, spread and outliers with error, ideal and p-value; the curve."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from sbikit import Curve, Metric
from sbikit_calibration.coverage.distance import ranks
from sbikit_calibration.ranks.bands import band
from sbikit_calibration.ranks.quantities import DISTANCE, Quantity
from sbikit_calibration.ranks.reach import unit
from sbikit_calibration.ranks.scores import Score, normal_scores, rank_tests

Integers = NDArray[np.int64]

_MEANINGS = {
    "shift": "how far draws lie above truths, in posterior sd, from the ranks of truths among draws",
    "spread": "scatter of truths among draws, over that of one more draw; above 1 draws are too narrow",
    "outliers": "share of truths that lie below all draws or above all",
    "dependence": "how the two vary together; above 0 draws have the larger correlation, below the smaller",
}
_FARTHER = "distance from the mean of truth and draws; below 0 truths lie farther out: draws too narrow"
_FARTHEST = "share of truths that lie farther from the mean than all draws"


@dataclass(frozen=True, eq=False)
class Ranked:
    """A quantity with the ranks of its members, (B, n + 1), entry 0 the truth's."""

    quantity: Quantity
    ranks: Integers

    @staticmethod
    def of(quantity: Quantity, seed: int) -> Ranked:
        """Rank the members of every observation; ties fall at random."""
        members = torch.from_numpy(np.ascontiguousarray(quantity.members))
        return Ranked(quantity, ranks(members, seed).numpy())

    @property
    def truth(self) -> Integers:
        """Ranks of the truths, (B,)."""
        return self.ranks[:, 0]

    @property
    def draws(self) -> int:
        """n."""
        return self.ranks.shape[1] - 1

    @property
    def of_dependence(self) -> bool:
        """Whether it is a product of two numbers: then only its shift is judged."""
        return self.quantity.family == "dependence"

    @cached_property
    def metrics(self) -> list[Metric]:
        """Its figures, not judged yet."""
        test, r, n = rank_tests(self.draws, len(self.truth)), self.truth, self.draws
        if self.of_dependence:
            return [self._metric("dependence", test.shift, *_shift(r, n))]
        if self.quantity.name == DISTANCE:
            return [
                self._metric("shift", test.shift, *_shift(r, n), meaning=_FARTHER),
                self._metric("outliers", test.farthest, *_share(r == n, 1 / (n + 1)), meaning=_FARTHEST),
            ]
        return [
            self._metric("shift", test.shift, *_shift(r, n)),
            self._metric("spread", test.spread, *_spread(r, n)),
            self._metric("outliers", test.outliers, *_share((r == 0) | (r == n), 2 / (n + 1))),
        ]

    @property
    def least_p(self) -> float:
        """Its least p-value."""
        return min(metric.p for metric in self.metrics if metric.p is not None)

    def curve(self) -> Curve:
        """The distribution of the truths' ranks minus the uniform one, with its band."""
        around = band(self.draws, len(self.truth))
        shown = (around.x, around.difference(self.truth), around.low, around.high)
        x, y, low, high = ((0.0, *values.tolist()) for values in shown)
        about = self.quantity.name
        return Curve(
            f"ranks_of_{about}" if about else "ranks",
            self.quantity.variable,
            x,
            y,
            low,
            high,
            (0.0,) * len(x),
            "rank of the truth among the draws, as a share",
            "share of truths below it, minus that share (band: 95 % of curves)",
            band="ideal",
        )

    def _metric(
        self, kind: str, test: Score, value: float, error: float, ideal: float, *, meaning: str = ""
    ) -> Metric:
        about = self.quantity.name
        part = "" if kind == "dependence" else f"{kind}_of_" if about else kind
        return Metric(
            f"rank_{part}{about}",
            self.quantity.variable,
            value,
            error,
            ideal,
            "none",
            meaning or _MEANINGS[kind],
            p=test.p_value(test.total(self.truth)),
        )


def _shift(truth: Integers, n: int) -> tuple[float, float, float]:
    """Draws minus truth in posterior sd: value, standard error where calibrated, ideal."""
    z = normal_scores(n) / unit(n)
    return -float(z[truth].mean()), float(z.std()) / len(truth) ** 0.5, 0.0


def _spread(truth: Integers, n: int) -> tuple[float, float, float]:
    """Root mean square normal score over that of uniform ranks: value, standard error, ideal."""
    square = normal_scores(n) ** 2
    square = square / square.mean()
    return float(square[truth].mean()) ** 0.5, 0.5 * float(square.std()) / len(truth) ** 0.5, 1.0


def _share(counted: NDArray[np.bool_], ideal: float) -> tuple[float, float, float]:
    """Share of the counted ones: value, standard error where calibrated, ideal."""
    return float(counted.mean()), (ideal * (1.0 - ideal) / len(counted)) ** 0.5, ideal
