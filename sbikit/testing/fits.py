"""Does a fit depend on its seed and the training stream alone?"""

from __future__ import annotations

import tempfile
from pathlib import Path

from sbikit.problem.seeds import draw_seeds
from sbikit.problem.variables import Values
from sbikit.roles.estimator import Estimator
from sbikit.roles.monitor import Monitor, QuietMonitor, Workspace
from sbikit.roles.sampler import Sampler
from sbikit.roles.simulator import Simulator
from sbikit.simulations.stream import Simulations
from sbikit.simulations.training import TrainingStream
from sbikit.testing.promises import (
    ContractError,
    another_global_random_state,
    global_random_state_kept,
    sbikit_errors_are_broken_promises,
)

# Of a variable's sd: libraries round by where in memory arrays lie, so that equal fits differ in the last
# digit; other first weights or another order of draws move draws by much more.
_TOLERANCE = 1e-3


def fitted(
    estimator: Estimator, simulator: Simulator, *, seed: int = 0, folder: Path | None = None
) -> Sampler:
    """A sampler fitted to the training stream of seed 0; the held-out stream is refused."""
    where = f"{type(estimator).__name__}.fit"
    stream = TrainingStream(Simulations(simulator, 0))
    with sbikit_errors_are_broken_promises(where), global_random_state_kept(where):
        return estimator.fit(stream, seed=seed, workspace=Workspace(folder), monitor=QuietMonitor())


def check_fits(
    estimator: Estimator, simulator: Simulator, sampler: Sampler, observation: Values, monitor: Monitor
) -> None:
    """Fit twice more: by the same seed from other global random states, and by another seed.

    Args:
        estimator: fits.
        simulator: to this.
        sampler: fitted to it by seed 0.
        observation: that samplers are compared for, each (B, *shape).
        monitor: hears if the seed does not matter.

    Raises:
        ContractError: the same seed gives other draws.
    """
    where = f"{type(estimator).__name__}.fit"
    with tempfile.TemporaryDirectory() as place, another_global_random_state():
        again = fitted(estimator, simulator, folder=Path(place))
    if not _draw_alike(sampler, again, observation, _TOLERANCE):
        raise ContractError(
            "Two fits with the same seed draw differently.",
            where=where,
            expected="equal draws, to rounding, whatever the global random state and the workspace's folder",
            got="other draws",
            fix="make all random numbers (first weights, the order of draws, noise) from `seed`, for example "
            "with sbikit.generator(seed)",
        )
    if _draw_alike(sampler, fitted(estimator, simulator, seed=1), observation, 0.0):
        monitor.say(f"{where}: another seed gives the same sampler, so it has no randomness or ignores it")


def _draw_alike(one: Sampler, other: Sampler, observation: Values, tolerance: float) -> bool:
    """Whether draws by the same seeds are equal within `tolerance` standard deviations of the variable."""
    seeds = draw_seeds(0, "contract/fits", 0, len(next(iter(observation.values()))))
    found, expected = (sampler.sample(observation, 8, seeds=seeds).values for sampler in (one, other))
    apart = {v.name: (found[v.name] - expected[v.name]).abs().max() for v in one.spec.latents}
    return all(float(far) <= tolerance * float(expected[name].std()) for name, far in apart.items())
