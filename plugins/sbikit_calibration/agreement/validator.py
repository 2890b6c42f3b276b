"""Agreement with an exact sampler: how far the judged draws of R observations are from exact ones.

The exact draws of an observation fall into two independent halves A and B. Every figure is measured for the
judged draws against A and against B, and averaged; its floor is the same figure for A in the place of the
judged draws, against B. With n draws on every side, exact draws reach the floor and cannot go below it but
by chance. Where there are more draws on one side, as many are kept, evenly spaced. Draws of a Markov chain
are worth fewer than n independent ones: then the floor lies above what independent exact draws would give,
and a difference of that size stays hidden.

Per parameter: `mean_offset`, the rms over observations of the difference of means in units of the exact
standard deviation, and `mean_shift`, its signed mean; `sd_ratio`, the geometric mean over observations of
the ratio of standard deviations; `w1`, the 1-Wasserstein distance in exact standard deviations. Per vector:
`kl`, the Kullback-Leibler divergence in nats (the mean of both directions), and `c2st`, the accuracy of a
classifier (arXiv:1610.06545; by sbi, for some observations, left out where sbi is not installed).

Per channel of a field: `field_correlation` of the posterior mean maps over the pixels; `mean_map_error`,
the rms difference of these maps in units of the exact posterior's pixel standard deviation;
`pixel_variance_ratio` and `band_power_ratio_*`, geometric means of the ratios of posterior variance and of
the draws' power; `coverage_*`, the share of the exact draws' pixels inside the judged draws' central
intervals; `tail_low` and `tail_high`, the shift of the 0.1 and 99.9 % quantiles over pixels and draws in
standard deviations of the map.

Jointly: `coherence_*`, the rms over observations of the difference in a parameter's posterior correlation
with a summary of the map; `coherence` of "joint" takes the rms over parameters and summaries, too. Right
marginals do not imply it (arXiv:2606.10023 shows uncertainties that are wrong behind means and marginals
that are right).

The verdict. What a figure exceeds its floor by (the root of the difference of squares for an rms), or for
signed figures, ratios and coverage what it differs from its ideal by, must be within the tolerance of the
options or less than `threshold` standard errors; `sbikit_calibration.agreement.verdict` says which. So
"fail" says that a difference beyond chance was measured, and larger than the tolerance, and "pass" that it
was not: how small a difference could have been shown is told by the errors beside the figure. With fewer
than 8 observations nothing is judged. An ideal is given where it does not depend on the number of draws;
elsewhere the floor takes its place.

C2ST is the figure of the benchmark of Lueckmann et al. 2021 (arXiv:2101.04653); the estimator of the
divergence is that of Wang, Kulkarni and Verdu 2009 (doi:10.1109/TIT.2009.2016060).
"""

from __future__ import annotations

import numpy as np

from sbikit import Curve, Evidence, Metric, Report, Validator, derive_seed
from sbikit_calibration.agreement.c2st import load_c2st
from sbikit_calibration.agreement.coherence import REGRESSION
from sbikit_calibration.agreement.compared import ComparedVariables
from sbikit_calibration.agreement.comparison import check_comparison
from sbikit_calibration.agreement.curves import coherence_curve, offset_curve, power_curve
from sbikit_calibration.agreement.figures import figures
from sbikit_calibration.agreement.numbers import Classifier, Numbers, gather
from sbikit_calibration.agreement.options import AgreementOptions
from sbikit_calibration.agreement.verdict import Figure

JOINT = "joint"
_REFERENCES = (
    "arXiv:1610.06545",
    "arXiv:2101.04653",
    "arXiv:2606.10023",
    "doi:10.1109/TIT.2009.2016060",
    "doi:10.1137/1118101",
)


class Agreement(Validator[AgreementOptions]):
    """Distance of the judged draws from an exact sampler's, figure by figure beside its floor."""

    needs_reference = True

    def validate(self, evidence: Evidence, *, seed: int) -> Report:
        """Every figure of `Evidence.comparison`.

        Raises:
            SpecError: there is no comparison, it has fewer than 2 observations or 8 draws in a half, or a
                variable is missing, of the wrong shape or not finite.
        """
        comparison = check_comparison(evidence)
        compared = ComparedVariables(evidence.spec)
        wanted = bool(self.options.c2st_observations and compared.vectors)
        c2st = load_c2st() if wanted else None
        own = derive_seed(seed, "c2st")
        classifier = None if c2st is None else Classifier(c2st, self.options.c2st_observations, own)
        numbers = gather(comparison, compared, classifier)
        metrics = self.judge(numbers, compared, lacking=wanted and c2st is None)
        curves = _curves(compared, numbers, derive_seed(seed, "bootstrap"))
        return Report("agreement", tuple(metrics), curves, _REFERENCES)

    def judge(self, numbers: Numbers, compared: ComparedVariables, *, lacking: bool = False) -> list[Metric]:
        """Every figure of numbers, with its verdict; `lacking` as in `_metrics`."""
        return self._metrics(numbers, lacking=lacking) + self._coherence(compared, numbers)

    def _metrics(self, numbers: Numbers, *, lacking: bool) -> list[Metric]:
        """All but coherence; `lacking` says that C2ST was wanted and sbi is not installed."""
        known = figures(self.options, draws=numbers.draws, lacking=lacking)
        return [
            known[name].metric(variable, found, self.options.threshold)
            for (name, variable), found in numbers.figures.items()
        ]

    def _coherence(self, compared: ComparedVariables, numbers: Numbers) -> list[Metric]:
        """One figure a parameter and summary, and one for all."""
        if not compared.coherent:
            return []
        squares = numbers.coherence_squares
        exact, draws = numbers.correlations[:, 1:].mean((0, 1)), numbers.correlations[:, 0].mean(0)
        metrics = []
        for i, scalar in enumerate(compared.scalars):
            for j, (summary, words) in enumerate(compared.summaries):
                text = (
                    f"rms difference in the posterior correlation with {words}: "
                    f"mean {exact[i, j]:.2f} in the reference, {draws[i, j]:.2f} here"
                )
                figure = Figure(f"coherence_{summary}", "rms", self.options.coherence, text)
                metrics.append(figure.metric(scalar, squares[:, :, i, j], self.options.threshold))
        text = "rms difference in the posterior correlations of all parameters with all map summaries"
        figure = Figure("coherence", "rms", self.options.coherence, text)
        return [*metrics, figure.metric(JOINT, squares.mean((2, 3)), self.options.threshold)]


def _curves(compared: ComparedVariables, numbers: Numbers, seed: int) -> tuple[Curve, ...]:
    curves = [
        offset_curve(scalar, numbers.offsets[:, :, i], derive_seed(seed, scalar))
        for i, scalar in enumerate(compared.scalars)
    ]
    if compared.coherent:
        kept = np.array([not name.startswith(REGRESSION) for name, _ in compared.summaries])
        curves += [
            coherence_curve(scalar, numbers.correlations[:, :, i, kept])
            for i, scalar in enumerate(compared.scalars)
        ]
    for channel in compared.channels:
        if len(channel.bins.k):
            found = numbers.rings[channel.variable]
            curves.append(power_curve(channel.variable, channel.bins.k, found, channel.field.extent_unit))
    return tuple(curves)
