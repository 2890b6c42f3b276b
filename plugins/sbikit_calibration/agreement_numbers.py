"""All numbers of agreement, observation by observation, so that draws are never copied as a whole."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from torch import Tensor

from sbikit import Comparison, Evidence, Field, Spec, SpecError, Vector, check_values
from sbikit.problem.seeds import derive_seed
from sbikit_calibration.agreement_c2st import accuracy
from sbikit_calibration.agreement_coherence import REGRESSION, correlations
from sbikit_calibration.agreement_figures import Floats, Trio
from sbikit_calibration.agreement_maps import (
    Maps,
    Modes,
    describe,
    map_numbers,
    ring_numbers,
    summary_names,
)
from sbikit_calibration.agreement_parameters import divergence, marginal_numbers, offsets, whitened

FEWEST_DRAWS = 8
FEWEST_OBSERVATIONS = 2
_WORDS = {
    "log_variance": "the map's log variance",
    "power_low": "its log power on large scales",
    "power_mid": "its log power on intermediate scales",
    "power_high": "its log power on small scales",
    "minimum": "its minimum",
    "maximum": "its maximum",
    "peaks": "its number of peaks",
    REGRESSION: "the best combination of the map's summaries",
}


# --- names ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Channel:
    """One channel of a field; `variable` is its name in the report."""

    variable: str
    field: Field
    index: int
    modes: Modes


class Layout:
    """Names of all that is compared.

    Attributes:
        scalars: "theta.S8" for every scalar of every vector, D in all.
        channels: "kappa", or "kappa.1", "kappa.2" where the field has several.
    """

    def __init__(self, spec: Spec) -> None:
        self.vectors = spec.vectors
        self.scalars = tuple(f"{v.name}.{label}" for v in spec.vectors for label in v.labels)
        self.channels = tuple(_channels(spec.fields))

    @property
    def coherent(self) -> bool:
        """Whether there are both parameters and maps."""
        return bool(self.scalars and self.channels)

    @cached_property
    def summaries(self) -> tuple[tuple[str, str], ...]:
        """Name and words of every summary; the name ends in the channel's where there are several."""
        several = len(self.channels) > 1
        return tuple(
            (f"{name}_{c.variable}", f"{_WORDS[name]} ({c.variable})") if several else (name, _WORDS[name])
            for c in self.channels
            for name in (*summary_names(c.modes), REGRESSION)
        )


def _channels(fields: tuple[Field, ...]) -> Iterator[Channel]:
    for field in fields:
        modes = Modes(field)
        for index in range(field.channels):
            name = field.name if field.channels == 1 else f"{field.name}.{index + 1}"
            yield Channel(name, field, index, modes)


# --- the comparison -------------------------------------------------------------------------


def check_comparison(evidence: Evidence) -> Comparison:
    """The comparison of the evidence.

    Raises:
        SpecError: there is none, it is too small, or a variable is missing, of the wrong shape or not finite.
    """
    comparison = evidence.comparison
    if comparison is None:
        raise SpecError(
            "There are no draws of an exact sampler to compare with.",
            where="evidence.comparison",
            expected="draws of an exact sampler for some held-out observations",
            got="nothing",
            fix="name an exact sampler: --reference",
        )
    first, R = evidence.spec.latents[0], len(comparison.rows)
    _check_count("observations whose exact draws can be trusted", R, FEWEST_OBSERVATIONS, "observations")
    for values, what, least in (
        (comparison.exact, "exact", 2 * FEWEST_DRAWS),
        (comparison.draws, "draws", FEWEST_DRAWS),
    ):
        n = len(values.get(first.name, ()))
        _check_count(f"draws an observation in {what!r}", n, least, "draws")
        check_values(values, evidence.spec.latents, (n, R), f"evidence.comparison.{what}")
    return comparison


def _check_count(what: str, got: int, least: int, more: str) -> None:
    if got < least:
        raise SpecError(
            f"Too few {what}.",
            where="evidence.comparison",
            expected=f"{least} or more",
            got=str(got),
            fix=f"ask the reference for more {more}",
        )


@dataclass(frozen=True)
class _Halves:
    """Picks n draws each from the judged and from both halves of the exact ones, evenly spaced."""

    comparison: Comparison
    count: int
    half: int

    @classmethod
    def of(cls, comparison: Comparison, name: str) -> _Halves:
        half = len(comparison.exact[name]) // 2
        return cls(comparison, min(half, len(comparison.draws[name])), half)

    def pick(self, name: str, r: int, channel: int | None = None) -> Trio[Maps]:
        """Draws of observation r, (n, *shape), of one channel where one is named."""
        exact, draws = (
            values[name][:, r] if channel is None else values[name][:, r, channel]
            for values in (self.comparison.exact, self.comparison.draws)
        )
        return Trio(
            self._some(draws),
            self._some(exact[: self.half]),
            self._some(exact[self.half : 2 * self.half]),
        )

    def _some(self, values: Tensor) -> Maps:
        rows = np.linspace(0, len(values) - 1, self.count).round().astype(int)
        return np.ascontiguousarray(values.numpy()[rows])


# --- the numbers ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Numbers:
    """What was found for every observation, in columns figure and floor.

    Args:
        draws: n, of an observation on each side.
        figures: (figure, variable) -> (R, 2); of C2ST as many rows as were asked for.
        offsets: of the D means, draws from each half and half from half, (R, 3, D).
        rings: channel -> log ratios of power, (R, K).
        correlations: of D scalars and S summaries in the draws and in the halves, (R, 3, D, S).
    """

    draws: int
    figures: dict[tuple[str, str], Floats]
    offsets: Floats
    rings: dict[str, Floats]
    correlations: Floats

    @property
    def coherence_squares(self) -> Floats:
        """Squared differences of correlations, (R, 2, D, S)."""
        draws, first, second = np.moveaxis(self.correlations, 1, 0)
        against_halves = 0.5 * ((draws - first) ** 2 + (draws - second) ** 2)
        return np.stack([against_halves, (first - second) ** 2], 1)


@dataclass(frozen=True)
class Classifier:
    """C2ST and the effort spent on it.

    Args:
        c2st: sbi's function.
        observations: it is used for so many, the first ones.
        seed: fixes it.
    """

    c2st: Callable[..., Any]
    observations: int
    seed: int


def gather(comparison: Comparison, layout: Layout, classifier: Classifier | None) -> Numbers:
    """All numbers of a comparison that `check_comparison` has checked."""
    halves = _Halves.of(comparison, next(iter(comparison.exact)))
    tally = _Tally(layout, classifier)
    for r in range(len(comparison.rows)):
        vectors = [tally.vector(r, v, halves.pick(v.name, r)) for v in layout.vectors]
        summaries = [tally.channel(c, halves.pick(c.field.name, r, c.index)) for c in layout.channels]
        if vectors:
            tally.together(_side_by_side(vectors), summaries)
    return tally.numbers(halves.count)


class _Tally:
    """Takes in one observation after the other."""

    def __init__(self, layout: Layout, classifier: Classifier | None) -> None:
        self._layout = layout
        self._classifier = classifier
        self._figures: dict[tuple[str, str], list[Floats]] = defaultdict(list)
        self._rings: dict[str, list[Floats]] = defaultdict(list)
        self._offsets: list[Floats] = []
        self._correlations: list[Floats] = []

    def vector(self, r: int, vector: Vector, draws: Trio[Maps]) -> Trio[Floats]:
        """Take in draws (n, D) and return them in double precision."""
        trio = draws.map(lambda one: one.astype(np.float64))
        for name, found in marginal_numbers(trio).items():
            for i, label in enumerate(vector.labels):
                self._figures[name, f"{vector.name}.{label}"].append(found[:, i])
        self._figures["kl", vector.name].append(whitened(trio).compare(divergence))
        if self._classifier is not None and r < self._classifier.observations:
            seed = derive_seed(self._classifier.seed, vector.name, r)
            told_apart = partial(accuracy, self._classifier.c2st, seed=seed)
            self._figures["c2st", vector.name].append(trio.compare(told_apart))
        return trio

    def channel(self, channel: Channel, maps: Trio[Maps]) -> Trio[Floats]:
        """Take in maps (n, *grid) and return their summaries (n, S)."""
        described, sd = describe(maps, channel.modes)
        for name, found in map_numbers(described, sd, channel.modes).items():
            self._figures[name, channel.variable].append(found)
        self._rings[channel.variable].append(ring_numbers(described)[0])
        return described.map(lambda one: one.summaries)

    def together(self, scalars: Trio[Floats], summaries: list[Trio[Floats]]) -> None:
        """Take in all scalars (n, D) with the summaries of every channel."""
        self._offsets.append(offsets(scalars))
        if summaries:
            whole = _side_by_side([scalars.join(one, correlations) for one in summaries])
            self._correlations.append(np.stack([whole.draws, whole.first, whole.second]))

    def numbers(self, draws: int) -> Numbers:
        """All of it, for `draws` draws on each side."""
        return Numbers(
            draws,
            {key: np.stack(rows) for key, rows in self._figures.items()},
            np.array(self._offsets),
            {key: np.stack(rows) for key, rows in self._rings.items()},
            np.array(self._correlations),
        )


def _side_by_side(parts: list[Trio[Floats]]) -> Trio[Floats]:
    """Columns of all parts."""
    return Trio(
        np.concatenate([part.draws for part in parts], -1),
        np.concatenate([part.first for part in parts], -1),
        np.concatenate([part.second for part in parts], -1),
    )
