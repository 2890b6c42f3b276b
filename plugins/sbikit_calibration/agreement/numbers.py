"""All numbers of agreement, observation by observation, so that draws are never copied as a whole."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from sbikit import Comparison, Vector, derive_seed
from sbikit_calibration.agreement.c2st import accuracy
from sbikit_calibration.agreement.coherence import correlations
from sbikit_calibration.agreement.compared import Channel, ComparedVariables
from sbikit_calibration.agreement.comparison import Halves
from sbikit_calibration.agreement.maps import describe, map_numbers, ring_numbers
from sbikit_calibration.agreement.parameters import divergence, marginal_numbers, offsets, whitened
from sbikit_calibration.agreement.trio import Floats, Maps, Trio, side_by_side


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


def gather(comparison: Comparison, compared: ComparedVariables, classifier: Classifier | None) -> Numbers:
    """All numbers of a comparison that `check_comparison` has checked."""
    halves = Halves.of(comparison, next(iter(comparison.exact)))
    tally = _Tally(classifier)
    for block in comparison.blocks():
        for i, r in enumerate(block.rows):
            vectors = [tally.vector(r, v, halves.pick(block, v.name, i)) for v in compared.vectors]
            summaries = [
                tally.channel(c, halves.pick(block, c.field.name, i, c.index)) for c in compared.channels
            ]
            if vectors:
                tally.together(side_by_side(vectors), summaries)
    return tally.numbers(halves.count)


class _Tally:
    """Takes in one observation after the other."""

    def __init__(self, classifier: Classifier | None) -> None:
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
        described, sd = describe(maps, channel.bins)
        for name, found in map_numbers(described, sd, channel.bins).items():
            self._figures[name, channel.variable].append(found)
        self._rings[channel.variable].append(ring_numbers(described)[0])
        return described.map(lambda one: one.summaries)

    def together(self, scalars: Trio[Floats], summaries: list[Trio[Floats]]) -> None:
        """Take in all scalars (n, D) with the summaries of every channel."""
        self._offsets.append(offsets(scalars))
        if summaries:
            whole = side_by_side([scalars.join(one, correlations) for one in summaries])
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
