"""MIRA, the predictive probability of random balls (arXiv:2605.02014), in closed form.

For a centre c, a ball through one of the S draws and n of the other N = S - 1 inside it, the truth
scores (n + 1)/(N + 2) where it is inside and (N - n + 1)/(N + 2) where it is not. With m the number
of draws closer to c than the truth, the mean over all S balls is 1/2 + m (S - m) / (S (S + 1)). Here
S + 1 is replaced by S - 1,
    R(m) = 1/2 + m (S - m) / (S (S - 1)),
whose mean over m uniform on 0..S, which is what an exact posterior gives, is 2/3 for every S.

The score is one number of a distribution: 2/3 is necessary, not sufficient, and more is not better
(in one dimension a posterior twice too wide scores 0.707, in high dimension less than 2/3). So the
verdict is on |MIRA - 2/3|, with prior centres and with centres near what the data say, which alone
tell a posterior from the prior. MIRA sees no more of the distribution of u = m/S than the mean of
(u - 1/2)^2, so errors may cancel: draws from the prior of one parameter of which the data remove some
60 % of the variance score 2/3 with either centres. The contraction and TARP show what MIRA misses.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from sbikit import Evidence, Metric, Report, Validator, mean_and_error
from sbikit_calibration.alarms import judged, students_p
from sbikit_calibration.coverage.contraction import contraction
from sbikit_calibration.coverage.ranked import Ranked, ranked
from sbikit_calibration.options import MiraOptions

IDEAL = 2.0 / 3.0


def score(closer: Tensor, draws: int) -> Tensor:
    """R(m): number of draws closer than the truth (any shape) and draws S >= 2 to scores, float64."""
    m = closer.double()
    return 0.5 + m * (draws - m) / (draws * (draws - 1))


def mean_score(scores: Tensor) -> tuple[float, float]:
    """The mean of scores (B, K) and its standard error.

    The K centres of one observation share truth and draws, so the observations' means are the
    independent units; their spread is what a bootstrap over observations would give.
    """
    return mean_and_error(scores.mean(1).numpy())


class Mira(Validator[MiraOptions]):
    """MIRA of every latent and of their block-weighted joint."""

    def validate(self, evidence: Evidence, *, seed: int) -> Report:
        """MIRA with prior centres (`mira`) and data centres (`mira_data_centres`), and the contraction.

        Raises:
            SpecError: the evidence is too small or of the wrong shape.
        """
        scores = self.judge(ranked("mira", evidence, self.options.centres, seed))
        return Report("mira", (*scores, *contraction(evidence)), references=("arXiv:2605.02014",))

    def judge(self, found: Iterable[Ranked]) -> list[Metric]:
        """The scores of ranks, with verdicts."""
        return judged([_metric(one) for one in found], self.options.alpha)


def _metric(found: Ranked) -> Metric:
    value, error = mean_score(score(found.closer, found.draws))
    return Metric(
        found.name,
        found.block,
        value,
        error,
        IDEAL,
        "none",
        f"mean probability that the draws give to where the truth lies, in or outside {found.regions}; "
        "2/3 for exact posterior draws, and more is not better",
        p=students_p(value - IDEAL, error, len(found.ranks)),
    )
