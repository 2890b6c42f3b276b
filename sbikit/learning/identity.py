"""What a checkpoint must agree with: the problem it was fitted to, and all that one fit depends on."""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import Any

from sbikit.problem.laws import describe_law
from sbikit.problem.spec import Spec
from sbikit.problem.supports import describe_support
from sbikit.problem.variables import Variable, Vector
from sbikit.roles.simulator import Simulator


def describe_problem(simulator: Simulator, spec: Spec) -> dict[str, Any]:
    """The variables, and the prior that makes their coordinates, as plain values that JSON can hold."""
    correlation = simulator.prior.correlation
    dependence = {} if correlation is None else {"correlation": correlation.tolist()}
    return {
        "latents": [_describe(variable) for variable in spec.latents],
        "observables": [_describe(variable) for variable in spec.observables],
        "summaries": [_describe(variable) for variable in simulator.summarised],
        "prior": {label: describe_law(law) for label, law in simulator.prior.laws.items()},
        **dependence,
    }


def fingerprint(*parts: Any) -> str:
    """A short text that differs where any of `parts`, plain values that JSON can hold, differs."""
    text = json.dumps(parts, sort_keys=True)
    return blake2b(text.encode(), digest_size=16).hexdigest()


def _describe(variable: Variable) -> list[Any]:
    labels = list(variable.labels) if isinstance(variable, Vector) else []
    described: list[Any] = [variable.name, list(variable.shape), labels, describe_support(variable.support)]
    if variable.fills:
        described = [*described, {"fill": list(variable.fills)}]
    if isinstance(variable, Vector):
        return described
    return [*described, {"stationary": variable.stationary, "periodic": variable.periodic}]
