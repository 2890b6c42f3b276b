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
options or less than `threshold` standard errors; `sbikit_calibration.agreement_figures` says which. So
"fail" says that a difference beyond chance was measured, and larger than the tolerance, and "pass" that it
was not: how small a difference could have been shown is told by the errors beside the figure. With fewer
than 8 observations nothing is judged. An ideal is given where it does not depend on the number of draws;
elsewhere the floor takes its place.

C2ST is the figure of the benchmark of Lueckmann et al. 2021 (arXiv:2101.04653); the estimator of the
divergence is that of Wang, Kulkarni and Verdu 2009 (doi:10.1109/TIT.2009.2016060).
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from pydantic import Field as Option
from pydantic import model_validator

from sbikit import Curve, Evidence, Metric, Options, Report, Validator
from sbikit.problem.seeds import derive_seed
from sbikit_calibration.agreement_c2st import FEWEST_FOR_C2ST, load_c2st
from sbikit_calibration.agreement_coherence import REGRESSION, coherence_curve
from sbikit_calibration.agreement_curves import offset_curve, power_curve
from sbikit_calibration.agreement_figures import Figure
from sbikit_calibration.agreement_numbers import Classifier, Layout, Numbers, check_comparison, gather

JOINT = "joint"
_NO_SBI = "; no C2ST beside it, since sbi is not installed (pip install 'sbikit[npe]')"


def _tolerance(default: float, description: str) -> Any:
    return Option(default=default, gt=0, description=f"tolerated excess over the floor: {description}")


class AgreementOptions(Options):
    """Options of `Agreement`: tolerances, and the effort spent on C2ST."""

    offset: float = _tolerance(0.2, "offset of means, in posterior standard deviations")
    sd_ratio: float = _tolerance(0.1, "ratio of standard deviations")
    w1: float = _tolerance(0.15, "1-Wasserstein distance, in posterior standard deviations")
    kl: float = _tolerance(0.1, "Kullback-Leibler divergence, in nats")
    c2st: float = _tolerance(0.05, "accuracy of the classifier")
    correlation: float = _tolerance(0.05, "correlation of the mean maps")
    variance: float = _tolerance(0.1, "ratio of the pixels' variances")
    band_power: float = _tolerance(0.1, "ratio of the draws' power")
    coverage: float = _tolerance(0.03, "coverage of central intervals")
    tails: float = _tolerance(0.3, "quantiles of the pixels, in standard deviations of the map")
    coherence: float = _tolerance(0.15, "correlation of parameters with summaries of the map")
    threshold: float = Option(
        default=3.0, gt=0, description="standard errors of excess below which nothing is refused"
    )
    c2st_observations: int = Option(
        default=16, ge=0, le=10_000, description="observations for C2ST, some 2 s each; 0 leaves it out"
    )

    @model_validator(mode="after")
    def _errors_need_two(self) -> Self:
        if self.c2st_observations == 1:
            raise ValueError("one observation gives C2ST no error: c2st_observations must be 0, or 2 or more")
        return self


class Agreement(Validator):
    """Distance of the judged draws from an exact sampler's, figure by figure beside its floor."""

    Options = AgreementOptions
    needs_reference = True

    def __init__(self, options: AgreementOptions | None = None) -> None:
        self.options: AgreementOptions = options or AgreementOptions()

    def validate(self, evidence: Evidence, *, seed: int) -> Report:
        """Every figure of `Evidence.comparison`.

        Raises:
            SpecError: there is no comparison, it has fewer than 2 observations or 8 draws in a half, or a
                variable is missing, of the wrong shape or not finite.
        """
        comparison = check_comparison(evidence)
        layout = Layout(evidence.spec)
        wanted = bool(self.options.c2st_observations and layout.vectors)
        c2st = load_c2st() if wanted else None
        own = derive_seed(seed, "c2st")
        classifier = None if c2st is None else Classifier(c2st, self.options.c2st_observations, own)
        numbers = gather(comparison, layout, classifier)
        lacking = _NO_SBI if wanted and c2st is None else ""
        figures = {
            figure.name: figure for figure in self._figures(lacking, enough=numbers.draws >= FEWEST_FOR_C2ST)
        }
        metrics = [
            figures[name].metric(variable, found, self.options.threshold)
            for (name, variable), found in numbers.figures.items()
        ]
        return Report(
            "agreement",
            (*metrics, *self._coherence(layout, numbers)),
            _curves(layout, numbers, derive_seed(seed, "bootstrap")),
            (
                "arXiv:1610.06545",
                "arXiv:2101.04653",
                "arXiv:2606.10023",
                "doi:10.1109/TIT.2009.2016060",
                "doi:10.1137/1118101",
            ),
        )

    def _figures(self, lacking: str, *, enough: bool) -> list[Figure]:
        """All but coherence; `lacking` tells of a missing figure, `enough` whether C2ST can be judged."""
        o = self.options
        found = [
            Figure(
                "mean_offset", "rms", o.offset, "rms difference of posterior means, in exact posterior sd"
            ),
            Figure("mean_shift", "signed", o.offset, "mean difference of posterior means, in exact sd", 0.0),
            Figure("sd_ratio", "ratio", o.sd_ratio, "posterior sd over the exact one, geometric mean", 1.0),
            Figure("w1", "distance", o.w1, "1-Wasserstein distance of the marginals, in exact sd"),
            Figure(
                "kl",
                "distance",
                o.kl,
                f"Kullback-Leibler divergence in nats, all parameters together{lacking}",
            ),
            Figure(
                "c2st",
                "distance",
                o.c2st,
                "accuracy of a classifier between judged and exact draws"
                + ("" if enough else f"; not judged with fewer than {FEWEST_FOR_C2ST} draws"),
                0.5,
                enough,
            ),
            Figure(
                "field_correlation",
                "similarity",
                o.correlation,
                "correlation of posterior mean maps over pixels",
            ),
            Figure(
                "mean_map_error", "rms", o.offset, "rms difference of posterior mean maps, in exact pixel sd"
            ),
            Figure(
                "pixel_variance_ratio",
                "ratio",
                o.variance,
                "posterior variance of pixels over the exact one",
                1.0,
            ),
            Figure(
                "tail_low", "signed", o.tails, "shift of the draws' 0.1 % quantile, in sd of the map", 0.0
            ),
            Figure(
                "tail_high", "signed", o.tails, "shift of the draws' 99.9 % quantile, in sd of the map", 0.0
            ),
        ]
        for band, scales in (("low", "large"), ("mid", "intermediate"), ("high", "small")):
            text = f"power of the draws over that of exact ones, {scales} scales"
            found.append(Figure(f"band_power_ratio_{band}", "ratio", o.band_power, text, 1.0))
        for level in (68, 95):
            text = f"share of exact pixels inside the judged draws' central {level} % intervals"
            found.append(Figure(f"coverage_{level}", "signed", o.coverage, text, level / 100))
        return found

    def _coherence(self, layout: Layout, numbers: Numbers) -> list[Metric]:
        """One figure a parameter and summary, and one for all."""
        if not layout.coherent:
            return []
        squares = numbers.coherence_squares
        exact, draws = numbers.correlations[:, 1:].mean((0, 1)), numbers.correlations[:, 0].mean(0)
        metrics = []
        for i, scalar in enumerate(layout.scalars):
            for j, (summary, words) in enumerate(layout.summaries):
                text = (
                    f"rms difference in the posterior correlation with {words}: "
                    f"mean {exact[i, j]:.2f} in the reference, {draws[i, j]:.2f} here"
                )
                figure = Figure(f"coherence_{summary}", "rms", self.options.coherence, text)
                metrics.append(figure.metric(scalar, squares[:, :, i, j], self.options.threshold))
        text = "rms difference in the posterior correlations of all parameters with all map summaries"
        figure = Figure("coherence", "rms", self.options.coherence, text)
        return [*metrics, figure.metric(JOINT, squares.mean((2, 3)), self.options.threshold)]


def _curves(layout: Layout, numbers: Numbers, seed: int) -> tuple[Curve, ...]:
    curves = [
        offset_curve(scalar, numbers.offsets[:, :, i], derive_seed(seed, scalar))
        for i, scalar in enumerate(layout.scalars)
    ]
    if layout.coherent:
        kept = np.array([not name.startswith(REGRESSION) for name, _ in layout.summaries])
        curves += [
            coherence_curve(scalar, numbers.correlations[:, :, i, kept])
            for i, scalar in enumerate(layout.scalars)
        ]
    for channel in layout.channels:
        if len(channel.modes.k):
            found = numbers.rings[channel.variable]
            curves.append(power_curve(channel.variable, channel.modes.k, found, channel.field.extent_unit))
    return tuple(curves)
