"""What a checkpoint must agree with: the problem it was fitted to, and all that one fit depends on."""

from __future__ import annotations

import json
import re
from hashlib import blake2b
from typing import Any

from sbikit.problem.spec import Spec
from sbikit.problem.variables import Variable, Vector
from sbikit.roles.simulator import Simulator


def describe_problem(simulator: Simulator, spec: Spec) -> dict[str, Any]:
    """The variables, and the prior that makes their coordinates, as plain values that JSON can hold."""
    return {
        "latents": [_describe(variable) for variable in spec.latents],
        "observables": [_describe(variable) for variable in spec.observables],
        "summaries": [_describe(variable) for variable in simulator.summarised],
        "prior": {label: _without_address(repr(law)) for label, law in simulator.prior.laws.items()},
    }


def fingerprint(*parts: Any) -> str:
    """A short text that differs where any of `parts`, plain values that JSON can hold, differs."""
    text = json.dumps(parts, sort_keys=True)
    return blake2b(text.encode(), digest_size=16).hexdigest()


def _describe(variable: Variable) -> list[Any]:
    if isinstance(variable, Vector):
        return [variable.name, list(variable.shape), list(variable.labels)]
    facts = {"stationary": variable.stationary, "periodic": variable.periodic}
    return [variable.name, list(variable.shape), facts]


def _without_address(text: str) -> str:
    """A law without a `__repr__` of its own is told by its class, not by where in memory it lies."""
    return re.sub(r" at 0x[0-9a-f]+", "", text)
