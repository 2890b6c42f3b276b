"""The contract of what a simulator can do beyond simulating."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from sbikit.problem.errors import UnsupportedError
from sbikit.problem.gaps import filled
from sbikit.problem.variables import Field, Values, Variable
from sbikit.roles.simulator import (
    SupportsFacts,
    SupportsFloor,
    SupportsMasks,
    SupportsObserve,
    SupportsSummaries,
)
from sbikit.simulations.seeding import ROUNDING, distance
from sbikit.testing.memory import check_memory
from sbikit.testing.promises import (
    ContractError,
    global_random_state_kept,
    same,
    shapes,
)
from sbikit.testing.seeding import BATCH, check_seeding

_NO_SEEDS = np.zeros(0, dtype=np.int64)


def check_observe(
    simulator: SupportsObserve,
    latents: Values,
    observed: Values,
    *,
    observables: Sequence[Variable],
    seeds: NDArray[np.int64],
    name: str,
) -> None:
    """Fresh noise: of the right shape and from the seeds alone, or refused.

    Args:
        simulator: adds the noise.
        latents: what it is added to, each (BATCH, *shape).
        observed: what was simulated with them, each (BATCH, *shape).
        observables: the observed variables.
        seeds: (BATCH,).
        name: of the simulator.

    Raises:
        ContractError: the first promise found broken.
    """
    where = f"{name}.observe"

    def observe(rows: Sequence[int], seeds: NDArray[np.int64]) -> Values:
        chosen = {key: value[list(rows)] for key, value in latents.items()}
        with global_random_state_kept(where):
            noisy = simulator.observe(chosen, seeds=seeds)
        seen = filled(noisy, [v for v in observables if v.name in noisy and not v.tells])
        shapes(seen, observables, (len(rows),), where)
        return seen

    try:
        first = observe(range(BATCH), seeds)
    except UnsupportedError:
        return
    check_memory(lambda chosen, seeds: simulator.observe(chosen, seeds=seeds), latents, seeds, where)
    if check_seeding(observables, first, observe, seeds, where):
        return
    for variable in observables:  # without noise, and so what was simulated
        expected = observed[variable.name]
        apart, rounding = distance(first[variable.name], expected, expected)
        if not apart <= rounding:
            raise ContractError(
                f"Other seeds give the same {variable.name!r}, and not the one that was simulated.",
                where=where,
                expected="fresh noise from `seeds`",
                got=f"a difference of {apart:.3g} to what `simulate` returned with these latents",
                fix="make the noise from the seeds, for example with sbikit.normals",
            )


def check_summaries(
    simulator: SupportsSummaries, summarised: Sequence[Variable], observed: Values, name: str
) -> None:
    """Summaries: the declared variables, the same for any shape of a batch."""
    where = f"{name}.summaries"
    check_memory(lambda chosen, seeds: simulator.summaries(chosen), observed, _NO_SEEDS, where)
    with global_random_state_kept(where):
        flat = simulator.summaries(observed)
        nested = simulator.summaries({k: v.unflatten(0, (2, BATCH // 2)) for k, v in observed.items()})
    declared = {variable.name for variable in summarised}
    if set(flat) != declared or set(nested) != declared:
        raise ContractError(
            "Summaries are not those that are declared.",
            where=where,
            expected=f"{name}.summarised: {', '.join(sorted(declared)) or 'nothing'}",
            got=", ".join(sorted({*flat, *nested})) or "nothing",
        )
    shapes(flat, summarised, (BATCH,), where)
    for key, summary in flat.items():
        text = f"the summary {key!r} is the same for any batch shape"
        same(nested[key].flatten(0, 1), summary, where, text, like=summary)


def check_facts(simulator: SupportsFacts, name: str) -> None:
    """Facts: words by words, the same each time."""
    where = f"{name}.facts"
    told = simulator.facts()
    words = all(isinstance(word, str) and word for pair in told.items() for word in pair)
    if not words or list(simulator.facts().items()) != list(told.items()):
        raise ContractError(
            "The facts are not words that stay the same.",
            where=where,
            expected="a mapping of strings that are not empty",
            got=repr(dict(told)),
            fix="format figures, and take them from the options alone",
        )


def check_floor(
    simulator: SupportsFloor, parameters: Values, outputs: Values, fields: Sequence[Field], name: str
) -> None:
    where = f"{name}.floor"
    check_memory(lambda chosen, seeds: simulator.floor(chosen), parameters, _NO_SEEDS, where)
    known = {field.name: field for field in fields}
    for key, bound in simulator.floor(parameters).items():
        if key not in known or tuple(bound.shape) != (BATCH, known[key].channels):
            raise ContractError(
                f"The floor of {key!r} has the wrong name or shape.",
                where=where,
                expected=f"latent fields ({', '.join(known)}), each ({BATCH}, channels)",
                got=f"{key} {tuple(bound.shape)}",
            )
        lowest = outputs[key].flatten(2).amin(2)
        slack = ROUNDING * float(outputs[key].std())
        if bool((bound > lowest + slack).any()):
            raise ContractError(
                f"The field {key!r} falls below its floor.",
                where=where,
                expected=f"values of at least {float(bound.flatten()[0]):.6g} (first draw)",
                got=f"{float(lowest.flatten()[0]):.6g}",
            )


def check_masks(simulator: SupportsMasks, observed: Values, fields: Sequence[Field], name: str) -> None:
    """Masks of observed fields, in whose masked pixels the data are 0."""
    where = f"{name}.masks"
    known = {field.name: field for field in fields}
    for key, mask in simulator.masks().items():
        if key not in known or tuple(mask.shape) != known[key].shape or mask.dtype != torch.bool:
            raise ContractError(
                f"The mask of {key!r} has the wrong name, shape or type.",
                where=where,
                expected=", ".join(f"{field.name} {field.shape}" for field in fields) + ", torch.bool",
                got=f"{key} {tuple(mask.shape)}, {mask.dtype}",
            )
        hidden = observed[key][:, ~mask]
        if bool((hidden != 0).any()):
            raise ContractError(
                f"The data {key!r} are not 0 where they are masked.",
                where=where,
                expected="0 in every masked pixel",
                got=f"up to {float(hidden.abs().max()):.6g}",
                fix="set masked pixels of what `simulate` and `observe` return to 0",
            )
