"""What all contract checks share: refusals that name the promise that is broken."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from sbikit.problem.errors import SbikitError
from sbikit.problem.spec import check_values
from sbikit.problem.variables import Values, Variable
from sbikit.simulations.seeding import ROUNDING

_ANOTHER = 20_261_127  # any seed that nobody sets by habit


class ContractError(SbikitError):
    """A plug-in breaks a promise of its interface."""


@contextmanager
def global_random_state_kept(where: str) -> Iterator[None]:
    def state() -> tuple[object, ...]:
        numpy_state = np.random.get_state()  # noqa: NPY002 - read only, to see whether it is touched
        return (random.getstate(), str(numpy_state), bytes(torch.get_rng_state().numpy()))

    before = state()
    yield
    for library, old, new in zip(("random", "numpy", "torch"), before, state(), strict=True):
        if old != new:
            raise ContractError(
                f"The global random state of {library} is used.",
                where=where,
                expected="randomness from the seed alone",
                fix="use sbikit.problem.seeds, or a generator made from the seed",
            )


@contextmanager
def another_global_random_state() -> Iterator[None]:
    """Another state of every global generator inside the block: nothing may depend on it."""
    kept = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    random.seed(_ANOTHER)
    np.random.seed(_ANOTHER)  # noqa: NPY002
    torch.default_generator.manual_seed(_ANOTHER)
    try:
        yield
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])  # noqa: NPY002
        torch.set_rng_state(kept[2])


@contextmanager
def sbikit_errors_are_broken_promises(where: str) -> Iterator[None]:
    try:
        yield
    except ContractError:
        raise
    except SbikitError as error:
        raise ContractError(
            error.message, where=error.where or where, expected=error.expected, got=error.got, fix=error.fix
        ) from error


def clone(values: Values) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in values.items()}


def unchanged(values: Values, before: Values, where: str) -> None:
    for key, value in values.items():
        if not torch.equal(value, before[key]):
            raise ContractError(
                f"The argument {key!r} is changed in place.", where=where, fix="work on a copy"
            )


def same(
    got: Tensor, expected: Tensor, where: str, promise: str, *, like: Tensor, tolerance: float = ROUNDING
) -> None:
    """Refuse tensors further apart than `tolerance` standard deviations of `like`."""
    sd = float(like.double().std()) if like.numel() > 1 else 1.0
    apart = float((got.double() - expected.double()).abs().max())
    if not apart <= tolerance * sd + 1e-6 * float(expected.double().abs().max()):
        raise ContractError(
            f"Broken promise: {promise}.",
            where=where,
            expected=f"a difference of at most {tolerance:g} standard deviations ({sd:.3g})",
            got=f"{apart:.3g}",
        )


def finite(tensor: Tensor, where: str, what: str) -> None:
    if not bool(torch.isfinite(tensor).all()):
        raise ContractError(
            f"{what} is not finite.", where=where, expected="finite numbers", got="NaN or infinity"
        )


def shapes(values: Values, variables: Sequence[Variable], batch: tuple[int, ...], where: str) -> None:
    with sbikit_errors_are_broken_promises(where):
        check_values(values, variables, batch, where)


def float32_on_cpu(values: Values, where: str) -> None:
    for key, value in values.items():
        if value.dtype != torch.float32 or value.device.type != "cpu":
            raise ContractError(
                f"Draws of {key!r} have the wrong type or device.",
                where=where,
                expected="torch.float32, cpu",
                got=f"{value.dtype}, {value.device}",
            )
