"""What of an inference can be judged. Where truths or draws are constants, ranks of ties fall at random and a
ratio of two variances is anything, so a validator would say something of them all the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from sbikit.problem.precision import gap
from sbikit.problem.spec import Spec
from sbikit.problem.variables import Values, Variable, Vector

# Gaps between float32 numbers in the standard deviation of truths, below which few of them differ; and in
# the range of all draws for one observation, which then are one number but for rounding.
_LEAST_SPREAD, _LEAST_RANGE = 16.0, 2.0
_SHARE = 0.5  # of the observations whose draws are one number


@dataclass(frozen=True)
class Constant:
    """A scalar of a latent vector, or a channel of a latent field, that cannot be judged.

    Args:
        name: "theta.S8", "field", or "field.2" where the field has several channels.
        variable: the latent's name.
        index: which scalar or channel.
        why: its truths are constant; or all draws for an observation are the truth, or one other number; or
            those of an exact sampler are one number.
    """

    name: str
    variable: str
    index: int
    why: Literal["truths", "known", "draws", "exact"]

    @property
    def words(self) -> str:
        """Why, for a reader."""
        return {
            "truths": "its truths do not vary beyond the rounding of float32: there is nothing to judge",
            "known": "every draw is the truth to the rounding of float32: there is no spread to judge",
            "draws": "all draws for an observation are one number, and that is not the truth",
            "exact": "all exact draws for an observation are one number: there is no spread to compare with",
        }[self.why]


def constants(spec: Spec, truth: Values, draws: Values, exact: Values) -> Iterator[Constant]:
    """Parts that are constants; what is missing or misshapen is left to those who need it.

    Args:
        spec: the problem.
        truth: latents, each (B, *shape).
        draws: their draws, each (n, B, *shape).
        exact: draws of an exact sampler, each (m, R, *shape); empty where there are none.
    """
    for variable in spec.latents:
        name, shape = variable.name, variable.shape
        t, d, e = truth.get(name), draws.get(name), exact.get(name)
        for index in range(shape[0]):
            why: Literal["truths", "known", "draws", "exact"] | None = None
            if t is not None and d is not None and _fit(t, d, shape):
                why = _why(t[:, index].reshape(len(t), -1), d[:, :, index].reshape(*d.shape[:2], -1))
            if why is None and e is not None and len(e) > 1 and e.shape[2:] == shape:
                known = _one_number(e[:, :, index].reshape(*e.shape[:2], -1))
                why = "exact" if _mostly(known) else None
            if why is not None:
                yield Constant(_part_name(variable, index), name, index, why)


@dataclass(frozen=True)
class Judged:
    """The part of a problem that can be judged: which scalars and channels of each latent are kept."""

    spec: Spec
    kept: dict[str, list[int]]

    @staticmethod
    def of(spec: Spec, left_out: tuple[Constant, ...]) -> Judged | None:
        """What is left without some parts, None where that is nothing."""
        out = {(part.variable, part.index) for part in left_out}
        kept = {v.name: [i for i in range(v.shape[0]) if (v.name, i) not in out] for v in spec.latents}
        latents = tuple(_narrowed(v, kept[v.name]) for v in spec.latents if kept[v.name])
        return Judged(replace(spec, latents=latents), kept) if latents else None

    def select(self, values: Values) -> dict[str, Tensor]:
        """The parts of values (*batch, *shape) that are kept; what is no latent stays as it is."""
        dims = {v.name: -len(v.shape) for v in self.spec.latents}
        chosen = {}
        for name, value in values.items():
            kept = self.kept.get(name)
            if kept is None or (name in dims and len(kept) == value.shape[dims[name]]):
                chosen[name] = value
            elif kept:
                chosen[name] = value.index_select(dims[name], torch.tensor(kept))
        return chosen


def _narrowed(variable: Variable, kept: list[int]) -> Variable:
    if not isinstance(variable, Vector):
        return replace(variable, channels=len(kept))
    labels, units, latex = (
        tuple(texts[i] for i in kept) for texts in (variable.labels, variable.units, variable.latex)
    )
    return replace(variable, labels=labels, units=units, latex=latex)


def _why(truth: Tensor, draws: Tensor) -> Literal["truths", "known", "draws"] | None:
    """Of truths (B, pixels) and draws (n, B, pixels)."""
    if bool((truth.double().std(0) < _LEAST_SPREAD * gap(truth.abs().amax(0))).all()):
        return "truths"
    constant = _one_number(draws)
    if not _mostly(constant):
        return None
    off = (truth - draws[0]).double().abs()
    true = (off <= _LEAST_RANGE * gap(truth)).all(-1)
    return "known" if _mostly(constant & true) else "draws"


def _one_number(draws: Tensor) -> Tensor:
    """Of which observations all draws (n, B, pixels) are one number but for rounding, (B,)."""
    low, high = draws.amin(0), draws.amax(0)
    rounding = _LEAST_RANGE * gap(torch.maximum(low.abs(), high.abs()))
    return (high.double() - low.double() <= rounding).all(-1)


def _mostly(of_observations: Tensor) -> bool:
    return float(of_observations.float().mean()) >= _SHARE


def _part_name(variable: Variable, index: int) -> str:
    if isinstance(variable, Vector):
        return f"{variable.name}.{variable.labels[index]}"
    return variable.name if variable.channels == 1 else f"{variable.name}.{index + 1}"


def _fit(truth: Tensor, draws: Tensor, shape: tuple[int, ...]) -> bool:
    """Whether there are several truths (B, *shape) and several draws (n, B, *shape)."""
    return min(len(truth), len(draws)) > 1 and truth.shape[1:] == shape and draws.shape[1:] == truth.shape
