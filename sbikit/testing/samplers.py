"""The contract of samplers: shapes, trust, and draws that depend on an observation and its seed alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from sbikit.problem.seeds import draw_seeds
from sbikit.problem.variables import Values
from sbikit.roles.monitor import Monitor
from sbikit.roles.sampler import Draws, Sampler
from sbikit.roles.trust import trusted
from sbikit.testing.promises import (
    ContractError,
    another_global_random_state,
    clone,
    float32_on_cpu,
    global_random_state_kept,
    same,
    sbikit_errors_are_broken_promises,
    shapes,
    unchanged,
)
from sbikit.testing.trust import COMPARED, check_agreement, check_trust


def check_sampler(
    sampler: Sampler,
    observation: Values,
    *,
    draws: int = 8,
    tolerance: float = 1e-3,
    exact: Sampler | None = None,
    monitor: Monitor | None = None,
) -> None:
    """Check what a sampler returns, what its draws depend on, and whether its trust is true.

    Args:
        sampler: the sampler.
        observation: at least two observations, each (B, *shape); with three or more, one lies in the middle.
        draws: n, an observation.
        tolerance: how far the draws of one observation may differ between batches, in standard
            deviations of the variable: room for rounding, no more.
        exact: a sampler of the exact posterior, where it is known: draws that are called trustworthy must
            have its mean and width, see `sbikit.testing.trust`.
        monitor: hears if no draws are called trustworthy.

    Raises:
        ContractError: the first promise found broken.
    """
    where = f"{type(sampler).__name__}.sample"
    B = len(next(iter(observation.values())))
    if B < 2:
        raise ContractError("Give check_sampler at least two observations.", where=where, got=str(B))
    seeds = draw_seeds(0, "contract/sampler", 0, B)

    def sample(rows: Sequence[int], seeds: NDArray[np.int64]) -> Draws:
        chosen = {key: value[list(rows)] for key, value in observation.items()}
        given = {**clone(chosen), "seeds": torch.from_numpy(seeds.copy())}
        with sbikit_errors_are_broken_promises(where), global_random_state_kept(where):
            drawn = sampler.sample(chosen, draws, seeds=seeds)
        unchanged({**chosen, "seeds": torch.from_numpy(seeds)}, given, where)
        _well_formed(drawn, sampler, draws, len(rows), where)
        return drawn

    everything = range(B)
    batch = sample(everything, seeds)
    kept = clone(batch.values)
    other = sample(everything, seeds + 1)
    _not_overwritten(batch.values, kept, where)
    middle, upwards = B // 2, list(everything)
    downwards = upwards[::-1]
    with _threads(1):
        one_thread = sample(everything, seeds)
    with _threads(2):
        two_threads = sample(everything, seeds)
    with another_global_random_state():
        again = sample(everything, seeds)
    alone = sample([middle], seeds[[middle]])
    reversed_batch = sample(downwards, seeds[downwards])
    in_chunks = Draws.joined([sample(part, seeds[part]) for part in (upwards[:1], upwards[1:])])
    among_copies = sample([middle] * B, np.append(seeds[[middle]], seeds[1:] + 2))
    _every_observation_matters(sample(everything, np.repeat(seeds[:1], B)), observation, where)
    for variable in sampler.spec.latents:
        key = variable.name
        drawn = batch.values[key]
        row = drawn[:, middle : middle + 1]
        for promise, found, expected in (
            (f"draws of {key!r} are the same for the same seeds", again.values[key], drawn),
            (f"draws of {key!r} are the same on one thread and on two", one_thread.values[key], drawn),
            (f"draws of {key!r} are the same on one thread and on two", two_threads.values[key], drawn),
            (
                f"draws of {key!r} for one observation are the same alone and in a batch",
                alone.values[key],
                row,
            ),
            (
                f"draws of {key!r} for one observation are the same in any row of a batch",
                reversed_batch.values[key][:, downwards],
                drawn,
            ),
            (f"draws of {key!r} are the same in one chunk and in two", in_chunks.values[key], drawn),
            (
                f"draws of {key!r} for one observation are the same whatever the others in the batch are",
                among_copies.values[key][:, :1],
                row,
            ),
        ):
            same(found, expected, where, promise, like=drawn, tolerance=tolerance)
        _every_seed_matters(drawn, other.values[key], key, where)
        if torch.equal(among_copies.values[key][:, 0], among_copies.values[key][:, 1]):
            raise ContractError(
                f"Two observations that are alike get the same draws of {key!r} for different seeds.",
                where=where,
                expected="draws that depend on each observation's own seed",
            )

    if exact is not None:
        check_exactness(sampler, observation, exact, monitor=monitor)


def check_exactness(
    sampler: Sampler, observation: Values, exact: Sampler, *, monitor: Monitor | None = None
) -> None:
    """Check that draws which are called trustworthy have the mean and the width of exact ones.

    Args:
        sampler: the sampler.
        observation: observations, each (B, *shape).
        exact: of the exact posterior of the same problem.
        monitor: hears if no draws are called trustworthy.

    Raises:
        ContractError: some have not, or trust is malformed.
    """
    where, B = f"{type(sampler).__name__}.sample", len(next(iter(observation.values())))
    with sbikit_errors_are_broken_promises(where):
        many = sampler.sample(clone(observation), COMPARED, seeds=draw_seeds(0, "contract/sampler", 0, B))
        right = exact.sample(observation, COMPARED, seeds=draw_seeds(0, "contract/exact", 0, B))
    check_trust(many, sampler.spec.latents, where)
    check_agreement(many, right, sampler.spec.latents, where)
    if monitor is not None and not trusted(many.trust):
        monitor.say(f"{where}: draws for none of {B} observations are trusted, so none were compared")


def _not_overwritten(values: Values, kept: Values, where: str) -> None:
    for key, value in values.items():
        if not torch.equal(value, kept[key]):
            raise ContractError(
                f"The next call overwrites the draws of {key!r} that the last one returned.",
                where=where,
                expected="tensors of their own for every call",
                got="the same memory, used again",
                fix="make new tensors in every call, or return copies",
            )


def _every_observation_matters(drawn: Draws, observation: Values, where: str) -> None:
    """Refuse draws that are the same for two observations, with one seed for all of them."""
    for b in range(1, len(drawn)):
        if all(torch.equal(value[b], value[0]) for value in observation.values()):
            continue
        if all(torch.equal(value[:, b], value[:, 0]) for value in drawn.values.values()):
            raise ContractError(
                "Draws do not depend on the observation.",
                where=where,
                expected="other draws for other data",
                got=f"equal draws for the observations 0 and {b} with one seed",
                fix="condition the draws on the data: what does not is the prior",
            )


def _well_formed(drawn: Draws, sampler: Sampler, n: int, count: int, where: str) -> None:
    if not isinstance(drawn, Draws):
        raise ContractError(
            "A sampler returns something else than draws.",
            where=where,
            expected="sbikit.Draws(values, trust)",
            got=type(drawn).__name__,
        )
    shapes(drawn.values, sampler.spec.latents, (n, count), where)
    float32_on_cpu(drawn.values, where)
    if len(drawn.trust) != count:
        raise ContractError(
            "Draws need one trust an observation.",
            where=where,
            expected=str(count),
            got=str(len(drawn.trust)),
        )
    check_trust(drawn, sampler.spec.latents, where)


def _every_seed_matters(drawn: torch.Tensor, other: torch.Tensor, key: str, where: str) -> None:
    for b in range(drawn.shape[1]):
        if torch.equal(drawn[:, b], other[:, b]):
            raise ContractError(
                f"Another seed gives the same draws of {key!r}.",
                where=where,
                expected="draws of every observation that depend on its seed",
                got=f"equal draws of observation {b} for two seeds",
            )


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
