"""How much is done, by preset: the full table, and a trial of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from _speed import SpeedSize


@dataclass(frozen=True)
class Sizes:
    """How much is done.

    Args:
        observations: held-out ones, O.
        draws: of the trained sampler for each, D.
        field_bytes: what the draws of fields may take on the disk; where O x D are more, fewer are kept of
            each observation.
        compared: observations that hmc draws for, the first ones.
        exact: its draws for each.
        at_once: observations that it draws for between two marks of progress.
        hmc: its options.
        speed: of the comparison of speeds.
        solver: observations and draws.
        run: settings of the run, beyond its preset.
        trial: whether chains that cannot be trusted count all the same, and no figure is a result.
    """

    observations: int = 500
    draws: int = 500
    field_bytes: float = 1e10
    compared: int = 24
    exact: int = 1000
    at_once: int = 2
    hmc: Mapping[str, Any] = field(default_factory=dict)
    speed: SpeedSize = field(default_factory=lambda: SpeedSize(observations=8, each=1, draws=48))
    solver: tuple[int, int] = (8, 16)
    run: Mapping[str, Any] = field(default_factory=dict)
    trial: bool = False


# Short paths, too: surveys with many nuisance parameters take hundreds of gradients a transition.
_SHORT_CHAINS = {"chains": 2, "warmup": 50, "draws": 50, "max_draws": 50, "path": 0.5}
# A network that is made in a minute, at the smallest size that presets have.
_TRIAL_RUN = {
    "simulator.size": 32,
    "estimator.steps": 30,
    "estimator.batch": 8,
    "estimator.width": 32,
    "estimator.depth": 2,
    "estimator.heads": 4,
    "estimator.guide_simulations": 512,
    "estimator.law_simulations": 4096,
}
_TRIAL = Sizes(
    observations=24,
    draws=32,
    compared=2,
    exact=64,
    at_once=1,
    hmc=_SHORT_CHAINS,
    speed=SpeedSize(observations=1, effective=64, blocks=2, each=1, draws=16, options=_SHORT_CHAINS),
    solver=(2, 8),
    run=_TRIAL_RUN,
    trial=True,
)
_TRIALS = {
    # Chains long enough to be trusted, so that there is a ratio of speeds.
    "quick": replace(
        _TRIAL,
        compared=4,
        speed=SpeedSize(
            observations=2, blocks=2, each=1, draws=16, options={"warmup": 100, "max_draws": 800}
        ),
    ),
}
_PRESETS = {
    "quick": Sizes(compared=100, at_once=16, speed=SpeedSize(), solver=(8, 32)),
    "standard": Sizes(at_once=4),
    # Of 82,000 coordinates steps of .45 are accepted so often, and steps of .25 at nine in ten.
    "paper": Sizes(
        compared=8,
        at_once=2,
        hmc={"target_accept": 0.7},
        speed=SpeedSize(observations=4, each=1, draws=8, options={"target_accept": 0.7}),
        solver=(4, 8),
    ),
}


def sizes_of(preset: str, *, quick: bool) -> Sizes:
    """The sizes of a preset, or of a trial; what is not named takes the defaults."""
    return _TRIALS.get(preset, _TRIAL) if quick else _PRESETS.get(preset, Sizes())


def draws_of_fields(sizes: Sizes, bytes_a_draw: int) -> int:
    """How many of D draws are kept of the fields of each observation; 16 at least."""
    most = int(sizes.field_bytes // (sizes.observations * bytes_a_draw))
    return min(sizes.draws, max(16, most))
