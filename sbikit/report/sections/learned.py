"""Of what the data taught next to nothing: the prior's draws are calibrated, too."""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup

from sbikit.problem.spec import Spec
from sbikit.problem.variables import Field
from sbikit.report.names import metric_variable
from sbikit.report.numbers import plus_minus
from sbikit.roles.validator import Metric, Report

CONTRACTION = "contraction"
"""Name of a figure that says which share of the prior variance the data removed, of all of a variable; of one
of its scalars the variable is "vector.label", or the name ends in the label."""

_LITTLE = 0.1  # of the prior variance: the posterior is then at least 95 % as wide as the prior
_ERRORS = 2.0  # standard errors from none within which nothing was learned, as far as can be told


def unlearned(reports: Iterable[Report], spec: Spec) -> list[Markup]:
    """Scalars and fields of which nothing or next to nothing was learned, each with its contraction."""
    wanted = {f"{v.name}.{label}" for v in spec.vectors for label in v.labels}
    wanted |= {v.name for v in spec.latents if isinstance(v, Field)}
    told = {about: metric for about, metric in _contractions(reports) if about in wanted}
    return [
        Markup("{} (contraction {})").format(
            metric_variable(about, spec), plus_minus(metric.value, metric.error)
        )
        for about, metric in told.items()
        if metric.value < max(_LITTLE, _ERRORS * metric.error)
    ]


def _contractions(reports: Iterable[Report]) -> Iterable[tuple[str, Metric]]:
    for report in reports:
        for metric in report.metrics:
            kind, _, label = metric.name.partition("_")
            if kind == CONTRACTION:
                yield f"{metric.variable}.{label}" if label else metric.variable, metric
