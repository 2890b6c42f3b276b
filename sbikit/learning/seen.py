"""What networks see of the data: the observed variables, and what the simulator makes of them."""

from __future__ import annotations

from torch import Tensor

from sbikit.problem.copies import copied
from sbikit.problem.spec import Spec
from sbikit.problem.variables import Field, Values
from sbikit.roles.plugin import supports
from sbikit.roles.simulator import Simulator, SupportsMasks, SupportsSummaries


def seen_by_networks(simulator: Simulator, spec: Spec, observation: Values) -> dict[str, Tensor]:
    """The observables of `spec`, and their summaries as "summary NAME", each (B, *shape) float32.

    Where the simulator masks its data they are 0, whatever the observation holds there.
    """
    seen = {v.name: observation[v.name].float() for v in spec.observables}
    if supports(simulator, SupportsMasks):
        for name, mask in simulator.masks().items():
            seen[name] = seen[name].masked_fill(~mask.to(seen[name].device), 0.0)
    if supports(simulator, SupportsSummaries):
        summaries = simulator.summaries(copied(seen))
        seen |= {f"summary {name}": value.float().clone() for name, value in summaries.items()}
    return seen


def declared_fields(simulator: Simulator, spec: Spec) -> dict[str, Field]:
    """The fields that a simulator declares of what networks see, by the names of `seen_by_networks`."""
    observed = {v.name: v for v in spec.observables if isinstance(v, Field)}
    return observed | {f"summary {v.name}": v for v in simulator.summarised if isinstance(v, Field)}
