"""How close truth and draws lie to a centre, block by block.

Every latent is scaled by the standard deviation of the training simulations (one constant a scalar
of a vector, one a channel of a field), never by the truths that are judged: that would break the null.
The joint distance gives every latent the weight 1/sqrt(dim), so that a vector of two parameters counts
as much as a map of a thousand pixels:

    d^2(y, c) = sum over latents of |(y - c) / s|^2 / dim.

Only the order of distances matters, so what is kept is d^2(y, c) - d^2(truth, c), which is 0 for the
truth and free of cancellation: with y' = (y - truth)/s and c' = (c - truth)/s it is |y'|^2 - 2 y'.c'.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from sbikit import (
    Evidence,
    SpecError,
    StoredDraws,
    Variable,
    Vector,
    check_shapes,
    check_values,
    draw_shapes,
    generator,
)

Centres: TypeAlias = Callable[[str, int], Tensor]
"""(latent's name, index of the observation) -> K centres, (K, *variable.shape)."""

JOINT = "joint"
MINIMUM_TRAINING = 32  # of 32 normal draws the standard deviation, a scale, is known to 1/sqrt(62), 13 %
TINY = 1e-300  # in the place of a zero divisor, near the smallest number in double precision
_CHUNK = 2**21  # numbers in flight, 16 MiB: fewer take more passes, more take memory


def check_evidence(evidence: Evidence) -> None:
    """Refuse evidence that cannot be judged.

    Raises:
        SpecError: fewer than 2 draws, 2 observations or 32 training simulations, or a variable that
            is missing or has the wrong shape.
    """
    first = evidence.spec.latents[0].name
    shapes = draw_shapes(evidence.draws)
    n, B = (*shapes.get(first, ()), 0, 0)[:2]
    M = len(evidence.training.get(first, ()))
    for what, got, least in (
        ("draws an observation", n, 2),
        ("observations", B, 2),
        ("training simulations", M, MINIMUM_TRAINING),
    ):
        if got < least:
            raise SpecError(
                f"Too few {what} to judge.",
                where="evidence",
                expected=f"{least} or more",
                got=str(got),
                fix=f"give more {what}",
            )
    latents, everything = evidence.spec.latents, (*evidence.spec.latents, *evidence.spec.observables)
    check_shapes(shapes, latents, (n, B), "evidence.draws")
    if not isinstance(evidence.draws, StoredDraws):  # of those every block is looked at when it is read
        check_values(evidence.draws, latents, (n, B), "evidence.draws")
    check_values(evidence.truth, latents, (B,), "evidence.truth")
    check_values(evidence.observation, evidence.spec.observables, (B,), "evidence.observation")
    check_values(evidence.training, everything, (M,), "evidence.training")


def scale(variable: Variable, training: Tensor) -> Tensor:
    """Standard deviation of training simulations (M, *shape), broadcastable to the variable's shape."""
    # One after the other: all at once in double precision would take twice as much memory again.
    sd = torch.stack([training[:, i].double().std() for i in range(training.shape[1])])
    sd = torch.where(sd > 0, sd, 1.0)
    return sd if isinstance(variable, Vector) else sd.reshape(-1, *(1,) * len(variable.grid))


def excess(truth: Tensor, draws: Tensor, centres: Tensor) -> Tensor:
    """d^2(draw, centre) - d^2(truth, centre) of scaled values.

    Args:
        truth: (dim,).
        draws: (n, dim).
        centres: (K, dim).

    Returns:
        (K, n), float64: negative where the draw is closer to the centre than the truth is.
    """
    c = (centres - truth).double()
    rows = max(1, _CHUNK // truth.numel())
    parts = []
    for chunk in draws.split(rows):
        y = (chunk - truth).double()
        parts.append((y**2).sum(-1) - 2.0 * c @ y.T)
    return torch.cat(parts, -1)


def excesses(evidence: Evidence, kinds: Sequence[Centres]) -> list[dict[str, Tensor]]:
    """The mean excess a scalar of every block, for each kind of centres: name -> (B, K, n + 1), float64.

    Entry 0 is the truth's, 0. Draws are gone through once.
    """
    scales = {v.name: scale(v, evidence.training[v.name]) for v in evidence.spec.latents}
    rows: list[dict[str, list[Tensor]]] = [{name: [] for name in scales} for _ in kinds]
    for block in evidence.blocks():
        for i, b in enumerate(block.rows):
            for name, s in scales.items():
                truth, draws = (block.truth[name][i] / s).flatten(), (block.draws[name][:, i] / s).flatten(1)
                for found, centres in zip(rows, kinds, strict=True):
                    c = (centres(name, b) / s).flatten(1)
                    found[name].append(excess(truth, draws, c) / truth.numel())
    return [_with_joint(found) for found in rows]


def _with_joint(rows: Mapping[str, list[Tensor]]) -> dict[str, Tensor]:
    """Excesses (K, n) of every observation together, with the truth's, and their sum over the latents."""
    found = {name: torch.nn.functional.pad(torch.stack(each), (1, 0)) for name, each in rows.items()}
    if len(found) > 1:
        found[JOINT] = torch.stack(list(found.values())).sum(0)
    return found


def ranks(excess: Tensor, seed: int) -> Tensor:
    """Closeness ranks, 0 the closest, of truth and draws: (B, K, n + 1) to the same; ties fall at random."""
    shuffle = torch.rand(excess.shape, generator=generator(seed)).argsort(-1)
    order = shuffle.gather(-1, excess.gather(-1, shuffle).argsort(dim=-1, stable=True))
    return order.argsort(-1)
