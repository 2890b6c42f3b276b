"""The inference problem, and checks of values and observations against it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbikit.problem.errors import ObservationError, SpecError
from sbikit.problem.variables import Field, Values, Variable, Vector

_PIECE = 2**22  # numbers looked at in one go


@dataclass(frozen=True)
class Spec:
    """The inference problem: draw `latents` given `observables`."""

    latents: tuple[Variable, ...]
    observables: tuple[Variable, ...]

    def __post_init__(self) -> None:
        names = [variable.name for variable in (*self.latents, *self.observables)]
        if len(set(names)) != len(names):
            raise SpecError("Two variables share a name.", got=", ".join(names))
        if not self.latents:
            raise SpecError("There is nothing to infer: no latent variable.")

    def __getitem__(self, name: str) -> Variable:
        for variable in (*self.latents, *self.observables):
            if variable.name == name:
                return variable
        raise SpecError(
            f"There is no variable {name!r}.",
            expected=", ".join(v.name for v in (*self.latents, *self.observables)),
            got=name,
        )

    @property
    def vectors(self) -> tuple[Vector, ...]:
        """The latent vectors."""
        return tuple(v for v in self.latents if isinstance(v, Vector))

    @property
    def fields(self) -> tuple[Field, ...]:
        """The latent fields."""
        return tuple(v for v in self.latents if isinstance(v, Field))

    @property
    def measured(self) -> tuple[Variable, ...]:
        """The observables but for those that only tell which numbers of the others are seen."""
        return tuple(v for v in self.observables if not v.tells)

    def select(self, *names: str) -> Spec:
        """The marginal problem that infers only the latents of these names.

        Raises:
            SpecError: a name is not a latent of this problem.
        """
        known = {variable.name for variable in self.latents}
        for name in names:
            if name not in known:
                raise SpecError(
                    f"{name!r} is not a latent variable.", expected=", ".join(sorted(known)), got=name
                )
        return replace(self, latents=tuple(v for v in self.latents if v.name in names))

    def given(self, *names: str) -> Spec:
        """The conditional problem, to which the latents of these names are observed, too.

        Raises:
            SpecError: a name is not a latent of this problem, or nothing is left to infer.
        """
        known = self.select(*names).latents
        return Spec(tuple(v for v in self.latents if v not in known), (*self.observables, *known))


def check_values(values: Values, variables: Iterable[Variable], batch: tuple[int, ...], where: str) -> None:
    """Refuse values that lack a variable, have a wrong shape, or are not finite.

    Args:
        values: what to check.
        variables: the variables that must be there.
        batch: the leading shape expected of each.
        where: who made the values, for the message.

    Raises:
        SpecError: with the variable at fault.
    """
    shapes = {name: tuple(value.shape) for name, value in values.items()}
    for variable in variables:
        check_shapes(shapes, [variable], batch, where)
        tensor = values[variable.name]
        bad = _not_finite(tensor)
        if bad:
            raise SpecError(
                f"The variable {variable.name!r} has values that are not finite.",
                where=where,
                expected="finite numbers",
                got=f"{bad} NaN or infinite values",
            )


def _not_finite(tensor: Tensor) -> int:
    """How many numbers are NaN or infinite, piece by piece: all at once would take memory twice more."""
    pieces = tensor.reshape(-1).split(_PIECE) if tensor.is_contiguous() else tensor
    return sum(piece.numel() - int(torch.isfinite(piece).sum()) for piece in pieces)


def check_shapes(
    shapes: Mapping[str, tuple[int, ...]], variables: Iterable[Variable], batch: tuple[int, ...], where: str
) -> None:
    """The same without looking at values.

    Raises:
        SpecError: with the variable at fault.
    """
    for variable in variables:
        if variable.name not in shapes:
            raise SpecError(
                f"The variable {variable.name!r} is missing.",
                where=where,
                expected=variable.name,
                got=", ".join(shapes) or "nothing",
            )
        expected = (*batch, *variable.shape)
        if shapes[variable.name] != expected:
            raise SpecError(
                f"The variable {variable.name!r} has the wrong shape.",
                where=where,
                expected=str(expected),
                got=str(shapes[variable.name]),
            )


def check_observation(observation: Values, spec: Spec, seeds: NDArray[np.int64] | None = None) -> int:
    """The number B of observations, each `(B, *shape)` for the observables of `spec`.

    Raises:
        ObservationError: a variable is missing, misshapen or not finite, or there is not one of `seeds` for
            each observation.
    """
    counts = set()
    for variable in spec.observables:
        found = observation.get(variable.name)
        if found is None or found.ndim == 0 or tuple(found.shape[1:]) != variable.shape:
            raise ObservationError(
                f"The observed variable {variable.name!r} is missing or has the wrong shape.",
                where=variable.name,
                expected=f"(observations, {', '.join(map(str, variable.shape))})",
                got="nothing" if found is None else str(tuple(found.shape)),
            )
        if not bool(torch.isfinite(found).all()):
            raise ObservationError(
                f"The observed variable {variable.name!r} has values that are not finite.",
                where=variable.name,
                expected="finite numbers",
            )
        counts.add(len(found))
    if len(counts) != 1:
        raise ObservationError(
            "The observed variables have different numbers of observations.", got=str(sorted(counts))
        )
    count = counts.pop()
    if seeds is not None and np.shape(seeds) != (count,):
        raise ObservationError(
            "Every observation needs a seed of its own.",
            where="seeds",
            expected=f"{count} integers in [0, 2^63), for example sbikit.draw_seeds(0, 'draws', 0, {count})",
            got=f"shape {np.shape(seeds)}",
        )
    return count
