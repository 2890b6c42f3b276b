"""Evidence for a validator, from a simulator and a sampler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from sbikit.problem.seeds import draw_seeds
from sbikit.problem.variables import Values
from sbikit.roles.evidence import Comparison, Evidence
from sbikit.roles.sampler import Sampler
from sbikit.roles.simulator import (
    Simulator,
)
from sbikit.roles.stored_draws import StoredDraws
from sbikit.simulations.stream import Simulations


def gather_evidence(
    simulator: Simulator,
    sampler: Sampler,
    *,
    observations: int = 200,
    draws: int = 64,
    training: int = 400,
    reference: Sampler | None = None,
    compared: int = 16,
    seed: int = 0,
) -> Evidence:
    """What a validator judges, for a sampler of (part of) a simulator's problem.

    Args:
        simulator: draws truths, observations and training simulations.
        sampler: draws from the posterior to judge.
        observations: B.
        draws: n, an observation.
        training: M.
        reference: an exact sampler; the evidence then holds a comparison with twice as many of its draws.
        compared: how many of the observations that is for.
        seed: fixes all of it.
    """
    simulations = Simulations(simulator, seed)
    held_out, spec = simulations.held_out(0, observations), sampler.spec
    observation = {v.name: held_out[v.name] for v in spec.observables}
    some = {key: value[:compared] for key, value in observation.items()}
    return Evidence(
        spec,
        {v.name: held_out[v.name] for v in spec.latents},
        observation,
        sampler.sample(observation, draws, seeds=draw_seeds(seed, "draws", 0, observations)).values,
        simulations.training(0, training),
        None if reference is None else _comparison(sampler, reference, some, draws=draws, seed=seed),
    )


def _comparison(sampler: Sampler, reference: Sampler, some: Values, *, draws: int, seed: int) -> Comparison:
    """New draws of both samplers for some observations, the first ones."""
    rows = tuple(range(len(next(iter(some.values())))))
    return Comparison(
        "reference",
        rows,
        reference.sample(some, 2 * draws, seeds=draw_seeds(seed, "exact", 0, len(rows))).values,
        sampler.sample(some, draws, seeds=draw_seeds(seed, "compared", 0, len(rows))).values,
    )


def on_disk(evidence: Evidence) -> Evidence:
    """The same evidence as a run gives it: draws are read when they are asked for, anew each time."""
    comparison = evidence.comparison
    if comparison is not None:
        comparison = replace(comparison, exact=_Disk(comparison.exact), draws=_Disk(comparison.draws))
    return replace(evidence, draws=_Disk(evidence.draws), comparison=comparison)


class _Disk(StoredDraws):
    """Draws that nobody can change."""

    def __init__(self, values: Values) -> None:
        self._values = values

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(value.shape) for name, value in self._values.items()}

    def block(self, names: Sequence[str], first: int, last: int) -> dict[str, Tensor]:
        return {name: self._values[name][:, first:last].clone() for name in names}
