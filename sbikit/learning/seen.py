"""What networks see of the data: the observed variables, and what the simulator makes of them."""

from __future__ import annotations

from torch import Tensor

from sbikit.problem.copies import copied
from sbikit.problem.spec import Spec
from sbikit.problem.variables import Values
from sbikit.roles.plugin import supports
from sbikit.roles.simulator import Simulator, SupportsSummaries


def seen_by_networks(simulator: Simulator, spec: Spec, observation: Values) -> dict[str, Tensor]:
    """The observables of `spec`, and their summaries as "summary NAME", each (B, *shape) float32."""
    seen = {v.name: observation[v.name].float() for v in spec.observables}
    if supports(simulator, SupportsSummaries):
        summaries = simulator.summaries(copied(seen))
        seen |= {f"summary {name}": value.float().clone() for name, value in summaries.items()}
    return seen
