"""The contract of samplers."""

from __future__ import annotations

import torch

from sbikit.problem.variables import Values
from sbikit.roles.sampler import Sampler
from sbikit.testing.promises import (
    ContractError,
    clone,
    float32_on_cpu,
    global_random_state_kept,
    same,
    sbikit_errors_are_broken_promises,
    shapes,
    unchanged,
)


def check_sampler(sampler: Sampler, observation: Values, *, draws: int = 8, tolerance: float = 1e-3) -> None:
    """Check what a sampler returns and what its draws depend on.

    Args:
        sampler: the sampler.
        observation: at least two observations, each (B, *shape).
        draws: n, an observation.
        tolerance: how far the draws of one observation may differ between batches, in standard
            deviations of the variable: room for rounding, no more.

    Raises:
        ContractError: the first promise found broken.
    """
    where = f"{type(sampler).__name__}.sample"
    B = len(next(iter(observation.values())))
    if B < 2:
        raise ContractError("Give check_sampler at least two observations.", where=where, got=str(B))
    given = clone(observation)

    def sample(values: Values, seed: int) -> Values:
        count = len(next(iter(values.values())))
        with sbikit_errors_are_broken_promises(where), global_random_state_kept(where):
            drawn = sampler.sample(values, draws, seed=seed)
        shapes(drawn, sampler.spec.latents, (draws, count), where)
        float32_on_cpu(drawn, where)
        return drawn

    batch = sample(observation, 1)
    unchanged(observation, given, where)
    again, other = sample(observation, 1), sample(observation, 2)
    alone = sample({key: value[:1] for key, value in observation.items()}, 1)
    among_others = sample({key: value[[0] * B] for key, value in observation.items()}, 1)
    for variable in sampler.spec.latents:
        key = variable.name
        drawn = batch[key]
        text = f"draws of {key!r} are the same for the same seed"
        same(again[key], drawn, where, text, like=drawn, tolerance=tolerance)
        text = f"draws of {key!r} for one observation are the same whatever the others in the batch are"
        same(alone[key], drawn[:, :1], where, text, like=drawn, tolerance=tolerance)
        same(among_others[key][:, :1], drawn[:, :1], where, text, like=drawn, tolerance=tolerance)
        if torch.equal(other[key], drawn):
            raise ContractError(
                f"Another seed gives the same draws of {key!r}.",
                where=where,
                expected="draws that depend on the seed",
                got="equal draws for seeds 1 and 2",
            )
