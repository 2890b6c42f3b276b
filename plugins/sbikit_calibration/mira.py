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

from pydantic import Field as Option
from torch import Tensor

from sbikit import Evidence, Metric, Options, Report, Validator
from sbikit.problem.seeds import derive_seed
from sbikit_calibration.centres import data_centres, prior_centres
from sbikit_calibration.contraction import contraction
from sbikit_calibration.distance import Centres, check_evidence, excesses, ranks

IDEAL = 2.0 / 3.0


def score(closer: Tensor, draws: int) -> Tensor:
    """R(m): number of draws closer than the truth (any shape) and draws S >= 2 to scores, float64."""
    m = closer.double()
    return 0.5 + m * (draws - m) / (draws * (draws - 1))


def mean_and_error(scores: Tensor) -> tuple[float, float]:
    """The mean of scores (B, K) and its standard error.

    The K centres of one observation share truth and draws, so the observations' means are the
    independent units; their spread is what a bootstrap over observations would give.
    """
    means = scores.mean(1)
    return float(means.mean()), float(means.std()) / len(means) ** 0.5


class MiraOptions(Options):
    """Options of `Mira`."""

    centres: int = Option(default=8, ge=1, le=1000, description="centres an observation, of each kind")
    threshold: float = Option(
        default=3.0, gt=0, description="standard errors from 2/3 beyond which the verdict is fail"
    )


class Mira(Validator):
    """MIRA of every latent and of their block-weighted joint."""

    Options = MiraOptions

    def __init__(self, options: MiraOptions | None = None) -> None:
        self.options: MiraOptions = options or MiraOptions()

    def validate(self, evidence: Evidence, *, seed: int) -> Report:
        """MIRA with prior centres (`mira`) and data centres (`mira_data_centres`), and the contraction.

        Raises:
            SpecError: the evidence is too small or of the wrong shape.
        """
        check_evidence(evidence)
        count = self.options.centres
        far = prior_centres(evidence, count, derive_seed(seed, "prior"))
        near = data_centres(evidence, count, derive_seed(seed, "data"))
        metrics = [
            *self._metrics("mira", evidence, far, derive_seed(seed, "ties", "prior")),
            *self._metrics("mira_data_centres", evidence, near, derive_seed(seed, "ties", "data")),
            *contraction(evidence),
        ]
        return Report("mira", tuple(metrics), references=("arXiv:2605.02014",))

    def _metrics(self, name: str, evidence: Evidence, centres: Centres, seed: int) -> list[Metric]:
        metrics = []
        for block, excess in excesses(evidence, centres).items():
            closer = ranks(excess, derive_seed(seed, block))[..., 0]
            value, error = mean_and_error(score(closer, excess.shape[-1] - 1))
            wrong = abs(value - IDEAL) > self.options.threshold * error
            metrics.append(
                Metric(
                    name,
                    block,
                    value,
                    error,
                    IDEAL,
                    "fail" if wrong else "pass",
                    "mean predictive probability of random balls; 2/3 where calibrated, more is not better",
                )
            )
        return metrics
