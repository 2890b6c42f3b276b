"""A simulator from a function."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import update_wrapper
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sbikit.problem.prior import Prior
from sbikit.problem.variables import Values, Variable
from sbikit.roles.one_by_one import One
from sbikit.roles.simulator import Simulator

Many = Callable[..., Mapping[str, Tensor | NDArray[np.floating]]]


class FunctionSimulator(Simulator):
    """A simulator of one draw at a time, made of a function by `sbikit.simulator`."""

    def __init__(
        self,
        function: Callable[..., Any],
        prior: Prior,
        outputs: Sequence[Variable],
        observed: Sequence[str],
    ) -> None:
        super().__init__()
        self.function = function
        self.prior, self.outputs, self.observed = prior, tuple(outputs), tuple(observed)
        self.called = getattr(function, "__name__", "simulator")
        update_wrapper(self, function, updated=())

    def simulate_one(self, parameters: Mapping[str, float], rng: np.random.Generator) -> Mapping[str, Any]:
        """One draw, by the function."""
        found: Mapping[str, Any] = self.function(parameters, rng)
        return found

    def __call__(self, *args: Any, **words: Any) -> Any:
        """The function itself."""
        return self.function(*args, **words)


class BatchedFunctionSimulator(FunctionSimulator):
    """The same of many draws at once."""

    def simulate(
        self, parameters: Values, *, seeds: NDArray[np.int64]
    ) -> Mapping[str, Tensor | NDArray[np.floating]]:
        """Many draws, by the function."""
        found: Mapping[str, Tensor | NDArray[np.floating]] = self.function(parameters, seeds=seeds)
        return found


def simulator(
    *,
    prior: Prior,
    outputs: Sequence[Variable],
    observed: Sequence[str],
    batched: bool = False,
) -> Callable[[One | Many], FunctionSimulator]:
    """Make a simulator of a function.

    ::

        @sbikit.simulator(
            prior=sbikit.Prior({"rate": sbikit.LogUniform(1.0, 100.0)}),
            outputs=[sbikit.Vector("counts", ("n1", "n2"))],
            observed=["counts"],
        )
        def counting(parameters, rng):
            return {"counts": rng.poisson(parameters["rate"], size=2)}

    Args:
        prior: laws of the parameters.
        outputs: the variables that a draw has.
        observed: names of those that an instrument sees; the others are inferred with the parameters.
        batched: whether the function makes many draws at once, `function(parameters, *, seeds)`, as
            `sbikit.Simulator.simulate` does; else one, `function(parameters, rng)`, as `simulate_one`.

    Returns:
        What makes the function a simulator, which may be called as before.
    """

    def make(function: One | Many) -> FunctionSimulator:
        cls = BatchedFunctionSimulator if batched else FunctionSimulator
        return cls(function, prior, outputs, observed)

    return make
