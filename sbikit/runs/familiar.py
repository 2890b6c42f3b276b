"""What observations looked like in training, and whether new data are like them.

Of each of the first training draws the mean, standard deviation, minimum and maximum of every channel of a
field, and every entry of a vector, are taken, and of each figure the range over the draws is kept in
`first-draws.json`. New data are unlike them where a figure lies further outside its range than half
of the range: of 512 normal figures the range is 6.1 sd, so beyond 6.1 sd from their mean. Nearer ones are not
told from figures with a long tail, such as a maximum. Standard deviations are compared by their logarithms.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sbikit.problem.errors import ObservationError, RunFolderError, SbikitError
from sbikit.problem.variables import Values, Variable, Vector
from sbikit.roles.sampler import Draws, Sampler
from sbikit.runs.given import conditional
from sbikit.storage.files import read_json, write_json
from sbikit.storage.seals import sealed, unsealed

DRAWS = 512
_SPREAD, _LEAST = "sd", 1e-300  # what is compared by its logarithm, and the least that has one
_FEWEST = 32  # draws: of fewer the range says nothing
_BEYOND = 0.5  # of a range: less raises false alarms, more overlooks


def figures(variable: Variable, value: Tensor) -> dict[str, NDArray[np.float64]]:
    """The figures of observations (B, *shape), each (B,)."""
    array = value.detach().cpu().double().numpy()
    if isinstance(variable, Vector):
        return {f"{variable.name}.{label}": array[:, i] for i, label in enumerate(variable.labels)}
    found = {}
    for c in range(variable.channels):
        of = variable.name if variable.channels == 1 else f"channel {c + 1} of {variable.name}"
        pixels = array[:, c].reshape(len(array), -1)
        for name, figure in (("mean", np.mean), (_SPREAD, np.std), ("minimum", np.min), ("maximum", np.max)):
            found[f"{name} of {of}"] = figure(pixels, axis=1)
    return found


@dataclass(frozen=True)
class Range:
    """A figure over the training draws."""

    low: float
    high: float

    def excess(self, value: float) -> float:
        """How far a value lies outside, in lengths of the range; 0 inside."""
        outside = max(self.low - value, value - self.high, 0.0)
        length = self.high - self.low
        rounding = 1e-5 * max(abs(self.low), abs(self.high))
        return 0.0 if outside <= rounding else outside / max(length, rounding)


@dataclass(frozen=True)
class Familiar:
    """What observations looked like in training.

    Args:
        draws: how many training draws were looked at.
        ranges: figure -> its range.
    """

    draws: int
    ranges: Mapping[str, Range]

    def unlike(self, observation: Values, variables: Iterable[Variable]) -> list[list[str]]:
        """For each of the observations (B, *shape), in words, how it is unlike them; [] where it is not."""
        found = {name: of for v in variables for name, of in figures(v, observation[v.name]).items()}
        count = len(next(iter(found.values())))
        return [self._words({name: float(of[b]) for name, of in found.items()}) for b in range(count)]

    def _compared(self, name: str) -> Range:
        """The range of a figure on the scale that it is compared on."""
        return Range(*(_scaled(name, end) for end in (self.ranges[name].low, self.ranges[name].high)))

    def _words(self, found: Mapping[str, float]) -> list[str]:
        excess = {
            name: self._compared(name).excess(_scaled(name, value))
            for name, value in found.items()
            if name in self.ranges
        }
        beyond = sorted((name for name in excess if excess[name] > _BEYOND), key=lambda name: -excess[name])
        if not beyond:
            return []
        name = beyond[0]
        span = self.ranges[name]
        more = f", and {len(beyond) - 1} more figures are outside, too" if len(beyond) > 1 else ""
        return [
            f"the data are unlike all that was trained on: {name} is {found[name]:.6g}, and in {self.draws} "
            f"training simulations it was {span.low:.6g} to {span.high:.6g}{more}"
        ]


def _scaled(name: str, value: float) -> float:
    return math.log(max(value, _LEAST)) if name.startswith(_SPREAD) else value


def note(path: Path, draws: Values, variables: Iterable[Variable]) -> None:
    """Keep how many of its first draws a fit has left, and the ranges of their figures.

    Args:
        path: where.
        draws: of the training, each (M, *shape); {} where it has left none.
        variables: the observables.
    """
    count = len(next(iter(draws.values()))) if draws else 0
    ranges = {}
    for variable in variables if count >= _FEWEST else ():
        for name, of in figures(variable, draws[variable.name][:DRAWS]).items():
            ranges[name] = [float(of.min()), float(of.max())]
    write_json(path, sealed({"draws": count, "ranges": ranges}))


def noted_draws(path: Path) -> int:
    """How many draws a fit has left.

    Raises:
        RunFolderError: the file is damaged or missing.
    """
    return _read(path)[0]


def read_familiar(path: Path) -> Familiar | None:
    """What the training data looked like; None where too few draws were left to tell.

    Raises:
        RunFolderError: the file is damaged or missing.
    """
    count, ranges = _read(path)
    return Familiar(min(count, DRAWS), ranges) if ranges else None


def _read(path: Path) -> tuple[int, dict[str, Range]]:
    try:
        found = unsealed(read_json(path))
        ranges = {name: Range(float(low), float(high)) for name, (low, high) in found["ranges"].items()}
        return int(found["draws"]), ranges
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"{type(error).__name__}: {error}"
    raise RunFolderError(
        "What the fit has left of its training draws cannot be read.",
        where=str(path),
        got=problem,
        fix=f"let the fit be done again: sbikit fit {path.parent} --redo",
    )


class Wary(Sampler):
    """A fitted sampler that does not vouch for data unlike all that it was trained on.

    Args:
        sampler: the sampler.
        familiar: what its training data looked like.
    """

    def __init__(self, sampler: Sampler, familiar: Familiar) -> None:
        self.spec, self._sampler, self._familiar = sampler.spec, sampler, familiar

    def given(self, names: Collection[str]) -> Wary:
        """See `sbikit.SupportsGiven.given`."""
        return Wary(conditional(self._sampler, names, "The fitted sampler"), self._familiar)

    def sample(self, observation: Values, n: int, *, seeds: NDArray[np.int64]) -> Draws:
        """See `sbikit.Sampler.sample`.

        Raises:
            ObservationError: the sampler fails on data that are unlike all that it was trained on.
        """
        unlike = self._familiar.unlike(observation, self.spec.observables)
        try:
            draws = self._sampler.sample(observation, n, seeds=seeds)
        except SbikitError:
            raise
        except Exception as error:
            if not any(unlike):
                raise
            raise ObservationError(
                f"The sampler fails on these data, {type(error).__name__}.",
                where="the observation",
                expected="data such as the simulator makes",
                got=next(why[0] for why in unlike if why),
                fix="check the units and what is masked",
            ) from error
        trust = (
            replace(one, trustworthy=False, complaints=(*one.complaints, *why)) if why else one
            for one, why in zip(draws.trust, unlike, strict=True)
        )
        return Draws(draws.values, tuple(trust))
