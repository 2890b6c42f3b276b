"""The contract of simulators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sbikit.problem.seeds import draw_seeds
from sbikit.problem.variables import Field, Values
from sbikit.roles.monitor import Monitor, QuietMonitor
from sbikit.roles.plugin import supports
from sbikit.roles.simulator import (
    Simulator,
    SupportsFacts,
    SupportsFloor,
    SupportsLogDensity,
    SupportsMarginalDensity,
    SupportsMasks,
    SupportsObserve,
    SupportsSummaries,
    method_of,
)
from sbikit.simulations.checked import run_simulator
from sbikit.testing.capabilities import check_facts, check_floor, check_masks, check_observe, check_summaries
from sbikit.testing.densities import check_log_density, check_marginal_density
from sbikit.testing.memory import check_memory
from sbikit.testing.promises import (
    ContractError,
    global_random_state_kept,
    sbikit_errors_are_broken_promises,
)
from sbikit.testing.seeding import BATCH, check_seeding
from sbikit.testing.whole_prior import check_whole_prior


def check_simulator(simulator: Simulator, *, monitor: Monitor | None = None) -> None:
    """Check that a simulator, and every capability it has, does what `sbikit.roles` promises.

    Args:
        simulator: the simulator; it is run at about a thousand points of its prior, or for twenty seconds.
        monitor: hears of what may be meant and may be a mistake, such as a simulator without noise.

    Raises:
        ContractError: the first promise found broken.
    """
    monitor = QuietMonitor() if monitor is None else monitor
    name = type(simulator).__name__
    where = method_of(simulator)
    seeds = draw_seeds(0, "contract/simulator", 0, BATCH)
    parameters = simulator.prior.sample(draw_seeds(0, "contract/parameters", 0, BATCH))

    def simulate(rows: Sequence[int], seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        chosen = {key: value[list(rows)] for key, value in parameters.items()}
        with sbikit_errors_are_broken_promises(where), global_random_state_kept(where):
            return run_simulator(simulator, chosen, seeds)

    def raw(chosen: Values, seeds: NDArray[np.int64]) -> Mapping[str, object]:
        return simulator.simulate(chosen, seeds=seeds)

    with sbikit_errors_are_broken_promises(f"{name}.spec"):
        spec = simulator.spec
    try:
        outputs = simulate(range(BATCH), seeds)
    except ContractError:
        check_whole_prior(simulator, where, monitor)  # says more: how often, and where
        raise
    check_memory(raw, parameters, seeds, where)
    if not check_seeding(simulator.outputs, outputs, simulate, seeds, where):
        monitor.say(f"{where}: another seed gives the same outputs, so it has no noise or ignores its seeds")
    with global_random_state_kept(where):
        check_whole_prior(simulator, where, monitor)
    _check_class(simulator)
    latents = {v.name: ({**outputs, **parameters})[v.name] for v in spec.latents}
    observed = {v.name: outputs[v.name] for v in spec.observables}
    if supports(simulator, SupportsObserve):
        check_observe(simulator, latents, observed, observables=spec.observables, seeds=seeds, name=name)
    if supports(simulator, SupportsSummaries):
        check_summaries(simulator, simulator.summarised, observed, name)
    if supports(simulator, SupportsFacts):
        check_facts(simulator, name)
    if supports(simulator, SupportsFloor):
        check_floor(simulator, parameters, outputs, spec.fields, name)
    if supports(simulator, SupportsMasks):
        check_masks(simulator, observed, [v for v in spec.observables if isinstance(v, Field)], name)
    if supports(simulator, SupportsLogDensity):
        check_log_density(simulator, observed, simulator, name)
    if supports(simulator, SupportsMarginalDensity):
        check_marginal_density(simulator, observed, simulator, name)


def _check_class(simulator: Simulator) -> None:
    """A capability that one instance has and its class has not would be overlooked."""
    name = type(simulator).__name__
    for method in ("observe", "summaries", "facts", "floor", "log_density", "marginal_density"):
        if method in vars(simulator):
            raise ContractError(
                "A capability is set on the instance.",
                where=f"{name}.{method}",
                expected=f"a method of the class {name}",
                got="an attribute set in __init__",
                fix="make it a method that refuses, or returns nothing, where options forbid it",
            )
