"""From numbers of R observations to one figure with its error, its floor and its verdict.

Every figure is measured between judged draws and a reference: against each half of the exact draws,
averaged, and once between the halves, which is its floor. Observations are independent, draws of one
observation share their posterior, so standard errors come from the scatter between observations. How the
numbers q_r of observations (floor: f_r) become one figure, and what of it is excess:

    rms         sqrt(mean q), q a square         mean(q - f), its root may be the tolerance
    distance    mean q, larger is worse          mean(q - f)
    similarity  mean q, smaller is worse         mean(f - q)
    signed      mean q                           |mean q - ideal|
    ratio       exp(mean q), q a log ratio       |mean q|, may be log(1 + tolerance)

The numbers of one observation are subtracted before anything is averaged, so that what they share cancels.
Ratios are geometric means: with as many draws on both sides the logarithm has no bias, while a mean of
ratios exceeds 1 for exact draws. Errors of rms and ratio are those of the mean, by the delta method.

An excess within the tolerance passes, and so does one that chance explains: below `threshold` standard
errors, replaced by the quantile of Student's t of R - 1 degrees of freedom that is exceeded as rarely.
Which errors? A signed figure or a ratio asks for what observations have in common: its own. The others
cannot be below their floor but by chance, and one observation that is far off counts although it is one:
the floor's, by which exact draws would scatter, too. Squares are skew, so for an rms it is log(mean q /
mean f) that is compared with its error: 1.5 / R^(1/2) where an observation gives one normal difference (of
variance 2 v for two means of variance v, so that mean f = 2 v and sd(q - f) = 3 v), more where observations
differ in their floor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from scipy.stats import norm, t

from sbikit import Metric, mean_and_error
from sbikit_calibration.agreement.trio import Floats

Kind = Literal["rms", "ratio", "signed", "distance", "similarity"]

# With 8 observations Student's t asks for 4.5 standard errors in the place of 3; with 2 for 236, so that
# hardly any difference would be refused.
FEWEST_TO_JUDGE = 8
_SCATTER = 1.5  # of an rms, derived above: sd(q - f) / mean f = 3 v / (2 v)


def _students(threshold: float, count: int) -> float:
    """What Student's t of `count` numbers exceeds as rarely as a normal number exceeds `threshold`."""
    return float(t.isf(norm.sf(threshold), count - 1))


@dataclass(frozen=True)
class Figure:
    """What is measured and how it is judged.

    Args:
        name: the metric's name.
        kind: how observations are combined.
        tolerance: the excess that is allowed.
        meaning: one line for the reader.
        ideal: its value for exact draws where that does not depend on their number.
        judged: whether it gets a verdict.
    """

    name: str
    kind: Kind
    tolerance: float
    meaning: str
    ideal: float | None = None
    judged: bool = True

    def metric(self, variable: str, numbers: Floats, threshold: float) -> Metric:
        """The figure for `numbers` (R, 2), of every observation and of its floor."""
        value, error = self._combined(numbers[:, 0])
        floor, floor_error = self._combined(numbers[:, 1])
        judged = self.judged and len(numbers) >= FEWEST_TO_JUDGE
        right = judged and self._within(numbers[:, 0], numbers[:, 1], _students(threshold, len(numbers)))
        return Metric(
            self.name,
            variable,
            value,
            error,
            self.ideal,
            ("pass" if right else "fail") if judged else "none",
            self.meaning,
            floor,
            floor_error,
        )

    def _combined(self, numbers: Floats) -> tuple[float, float]:
        mean, error = mean_and_error(numbers)
        if self.kind == "rms":
            root = math.sqrt(mean)
            return root, error / (2.0 * root) if root else 0.0
        if self.kind == "ratio":
            return math.exp(mean), math.exp(mean) * error
        return mean, error

    def _within(self, value: Floats, floor: Floats, threshold: float) -> bool:
        """Whether the excess is tolerable, or less than `threshold` standard errors."""
        if self.kind == "ratio":
            mean, error = mean_and_error(value)
            return abs(mean) <= max(math.log1p(self.tolerance), threshold * error)
        if self.kind == "signed":
            mean, error = mean_and_error(value)
            return abs(mean - (self.ideal or 0.0)) <= max(self.tolerance, threshold * error)
        mean, error = mean_and_error(floor)
        excess = float(value.mean()) - mean
        if self.kind == "rms":
            relative = max(_SCATTER / math.sqrt(len(floor)), error / mean if mean > 0 else 0.0)
            return excess <= max(self.tolerance**2, mean * math.expm1(threshold * relative))
        return (-excess if self.kind == "similarity" else excess) <= max(self.tolerance, threshold * error)
