"""Is what a sampler says of its draws well formed, true to its own readings, and true of the draws?

Samples of an exact posterior, where one is known, settle the last: draws that are called trustworthy must
have its mean and its width, to a margin that chance does not explain.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sbikit.problem.variables import Variable
from sbikit.roles.sampler import Draws
from sbikit.roles.trust import Reading, Trust
from sbikit.testing.promises import ContractError

COMPARED = 256  # draws: the mean is known to .09 posterior sd, the width to 6 %, in comparison with as many
# Of one observation, as the root mean square over a variable's scalars: 5 and 6 times what chance makes of
# independent draws, and no more than 4 times of 400 effective ones.
_SHIFT = 0.5  # posterior standard deviations
_WIDTH = 1.5  # a factor


def check_trust(drawn: Draws, variables: Sequence[Variable], where: str) -> None:
    """Refuse trust that is malformed, or that its own readings or the draws contradict.

    Args:
        drawn: n draws for each of B observations.
        variables: the latents.
        where: the call, for messages.

    Raises:
        ContractError: it is.
    """
    for b, trust in enumerate(drawn.trust):
        at = f"{where}, trust in the draws for observation {b}"
        _check_form(trust, at)
        if trust.trustworthy and trust.complaints:
            raise _lie(at, "no complaints", "; ".join(trust.complaints))
        if not trust.trustworthy and not trust.complaints:
            raise ContractError(
                "Draws are not to be trusted, and nothing says why.",
                where=at,
                expected="a complaint, one sentence",
                got="none",
            )
        for reading in trust.readings if trust.trustworthy else ():
            if not reading.good:
                wanted = f"{reading.name} {reading.wanted}"
                raise _lie(at, wanted, "not finite" if reading.value is None else f"{reading.value:.4g}")
        for variable in variables if trust.trustworthy else ():
            row = drawn.values[variable.name][:, b]
            if len(row) > 1 and torch.equal(row, row[:1].expand_as(row)):
                raise _lie(at, f"draws of {variable.name!r} that differ", f"{len(row)} equal ones")


def check_agreement(drawn: Draws, exact: Draws, variables: Sequence[Variable], where: str) -> None:
    """Refuse trust in draws that are clearly not from the exact posterior.

    Args:
        drawn: n draws for each of B observations.
        exact: as many exact ones for the same observations.
        variables: the latents.
        where: the call, for messages.

    Raises:
        ContractError: mean or width of draws that are called trustworthy is another one.
    """
    for variable in variables:
        shift, width = _apart(drawn.values[variable.name], exact.values[variable.name])
        for b, trust in enumerate(drawn.trust):
            if trust.trustworthy and not (shift[b] <= _SHIFT and 1.0 / _WIDTH <= width[b] <= _WIDTH):
                raise _lie(
                    f"{where}, trust in the draws for observation {b}",
                    f"draws of {variable.name!r} whose mean is within {_SHIFT:g} standard deviations of the "
                    f"exact posterior's, and whose width is within a factor of {_WIDTH:g} of its",
                    f"{float(shift[b]):.3g} standard deviations and a factor of {float(width[b]):.3g}",
                )


def _apart(drawn: Tensor, exact: Tensor) -> tuple[Tensor, Tensor]:
    """Distance of means in exact standard deviations and ratio of widths, root mean squares, each (B,)."""
    found, right = (value.double().flatten(2) for value in (drawn, exact))
    sd = right.std(0)
    shift = ((found.mean(0) - right.mean(0)) / sd).square().mean(1).sqrt()
    return shift, (found.std(0) / sd).square().mean(1).sqrt()


def _check_form(trust: object, where: str) -> None:
    expected = "sbikit.Trust(trustworthy: bool, readings: tuple[Reading, ...], complaints: tuple[str, ...])"
    wrong = (
        not isinstance(trust, Trust)
        or not isinstance(trust.trustworthy, bool)
        or not isinstance(trust.readings, tuple)
        or not all(isinstance(one, Reading) for one in trust.readings)
        or not isinstance(trust.complaints, tuple)
        or not all(isinstance(text, str) for text in trust.complaints)
    )
    if wrong:
        raise ContractError("Trust is malformed.", where=where, expected=expected, got=repr(trust))
    names = [reading.name for reading in trust.readings] if isinstance(trust, Trust) else []
    if len(set(names)) != len(names):
        raise ContractError("Two readings share a name.", where=where, got=", ".join(names))


def _lie(where: str, expected: str, got: str) -> ContractError:
    return ContractError(
        "Draws are called trustworthy that are not.",
        where=where,
        expected=expected,
        got=got,
        fix="judge each observation's draws by figures of their own, and say no where one misses its limit",
    )
