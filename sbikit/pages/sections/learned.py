"""Of what the data taught next to nothing: the prior's draws are calibrated, too."""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup

from sbikit.pages.names import metric_variable
from sbikit.pages.numbers import plus_minus
from sbikit.problem.spec import Spec
from sbikit.problem.variables import Field
from sbikit.roles.validator import Report

CONTRACTION = "contraction"
"""Name of a figure that says which share of the prior variance the data removed."""

_LITTLE = 0.1  # of the prior variance: the posterior is then at least 95 % as wide as the prior
_ERRORS = 2.0  # standard errors from none within which nothing was learned, as far as can be told


def unlearned(reports: Iterable[Report], spec: Spec) -> list[Markup]:
    """Scalars and fields of which nothing or next to nothing was learned, each with its contraction."""
    wanted = {f"{v.name}.{label}" for v in spec.vectors for label in v.labels}
    wanted |= {v.name for v in spec.latents if isinstance(v, Field)}
    told = {m.variable: m for report in reports for m in report.metrics if m.name == CONTRACTION}
    return [
        Markup("{} (contraction {})").format(
            metric_variable(about, spec), plus_minus(metric.value, metric.error)
        )
        for about, metric in told.items()
        if about in wanted and metric.value < max(_LITTLE, _ERRORS * metric.error)
    ]
