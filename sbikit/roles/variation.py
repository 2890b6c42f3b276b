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
from sbikit.roles.stored_draws import SomeDraws, StoredDraws, draw_blocks, draw_shapes

# Gaps between float32 numbers in the standard deviation of truths, below which few of them differ; and in
# the range of all draws for one observation, which then are one number but for rounding.
_LEAST_SPREAD, _LEAST_RANGE = 16.0, 2.0
_SHARE = 0.5  # of the observations whose draws are one number


Why = Literal["truths", "known", "draws", "exact"]


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
    why: Why

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
        draws: their draws, each (n, B, *shape), in memory or on the disk: then they are read once.
        exact: draws of an exact sampler, each (m, R, *shape); empty where there are none.
    """
    shapes, exact_shapes = draw_shapes(draws), draw_shapes(exact)
    for variable in spec.latents:
        name, shape = variable.name, variable.shape
        found: dict[int, Why] = {}
        if name in truth and _fit(tuple(truth[name].shape), shapes.get(name, ()), shape):
            found |= _judged_parts(truth[name], draws, name)
        beside = exact_shapes.get(name, ())
        if beside[2:] == shape and beside[0] > 1:
            found = {**_exact_parts(exact, name), **found}
        for index in sorted(found):
            yield Constant(_part_name(variable, index), name, index, found[index])


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

    def select(self, values: Values) -> Values:
        """The parts of values (*batch, *shape) that are kept; what is no latent stays as it is."""
        if isinstance(values, StoredDraws):
            return SomeDraws(values, kept=self.kept)
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


def _judged_parts(truth: Tensor, draws: Values, name: str) -> dict[int, Why]:
    """Why, of each scalar or channel that is a constant, for truths (B, *shape)."""
    few = _LEAST_SPREAD * gap(truth.abs().amax(0))
    flat = [(truth[:, i].double().std(0) < few[i]).all() for i in range(truth.shape[1])]
    constant, true = [], []
    for rows, block in draw_blocks(draws, [name]):
        value, t = block[name], truth[rows.start : rows.stop]
        constant.append(_one_numbers(value))
        near = (t - value[0]).double().abs() <= _LEAST_RANGE * gap(t)
        true.append(near.reshape(*near.shape[:2], -1).all(-1))
    of_draws, right = torch.cat(constant), torch.cat(true)
    found: dict[int, Why] = {}
    for i, no_spread in enumerate(flat):
        if bool(no_spread):
            found[i] = "truths"
        elif _mostly(of_draws[:, i]):
            found[i] = "known" if _mostly(of_draws[:, i] & right[:, i]) else "draws"
    return found


def _exact_parts(exact: Values, name: str) -> dict[int, Why]:
    """The same for draws of an exact sampler."""
    known = torch.cat([_one_numbers(block[name]) for _, block in draw_blocks(exact, [name])])
    return {i: "exact" for i in range(known.shape[1]) if _mostly(known[:, i])}


def _one_numbers(draws: Tensor) -> Tensor:
    """Of which observations and scalars or channels all draws (n, b, C, *grid) are one number, (b, C)."""
    low, high = draws.amin(0), draws.amax(0)
    rounding = _LEAST_RANGE * gap(torch.maximum(low.abs(), high.abs()))
    near = high.double() - low.double() <= rounding
    return near.reshape(*near.shape[:2], -1).all(-1)


def _mostly(of_observations: Tensor) -> bool:
    return float(of_observations.float().mean()) >= _SHARE


def _part_name(variable: Variable, index: int) -> str:
    if isinstance(variable, Vector):
        return f"{variable.name}.{variable.labels[index]}"
    return variable.name if variable.channels == 1 else f"{variable.name}.{index + 1}"


def _fit(truth: tuple[int, ...], draws: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether there are several truths (B, *shape) and several draws (n, B, *shape)."""
    return truth[1:] == shape and draws[1:] == truth and min(truth[0], draws[0]) > 1
