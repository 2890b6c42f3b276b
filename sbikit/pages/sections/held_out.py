"""Held-out recovery: posterior means and widths against the truths of many simulations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from sbikit.pages.arrays import Array, columns
from sbikit.pages.figures.against_truth import error_plot, recovery_plot
from sbikit.pages.figures.cells import cells
from sbikit.pages.figures.labels import field_label
from sbikit.pages.names import labels_html, math_labels, short_title
from sbikit.pages.numbers import plus_minus, signed
from sbikit.pages.pictures import Picture, make_picture
from sbikit.pages.recovery import (
    FEWEST_DRAWS,
    FEWEST_OBSERVATIONS,
    ErrorTally,
    Estimate,
    Recovery,
    RecoveryTally,
)
from sbikit.problem.variables import Field, Variable, Vector
from sbikit.roles.stored_draws import draw_blocks
from sbikit.storage.posterior import HeldOut, PosteriorFile

FAR = 3.0  # standard errors: of 1,000 true numbers 3 lie farther off by chance


@dataclass(frozen=True)
class EstimateText:
    """A number as the table shows it; `far` says that it is more than `FAR` off its ideal."""

    text: str
    ideal: str
    off: str
    far: bool


@dataclass(frozen=True)
class RecoveryRow:
    """Recovery of one scalar or field channel."""

    name: Markup
    bias: EstimateText
    scatter: EstimateText
    coverage: EstimateText
    width: EstimateText


@dataclass(frozen=True)
class HeldOutRecovery:
    """Recovery of truths over the calibration set."""

    rows: list[RecoveryRow]
    pictures: list[Picture]
    draws: int
    observations: int


def held_out_recovery(posterior: PosteriorFile) -> HeldOutRecovery | None:
    """Tables and figures of the calibration set; None where it is missing or too small to judge."""
    held_out = posterior.held_out
    if held_out is None:
        return None
    n, observations, *_ = next(iter(held_out.draws.shapes.values()))
    if n < FEWEST_DRAWS or observations < FEWEST_OBSERVATIONS:
        return None
    spec = posterior.spec
    parts = [_Part.of(variable, index, held_out) for variable in spec.latents for index in _indices(variable)]
    for rows, draws in draw_blocks(held_out.draws):
        for part in parts:
            name = part.variable.name
            part.take(held_out.truth[name][rows.start : rows.stop], draws[name].numpy())
    scalars = [part for part in parts if isinstance(part.variable, Vector)]
    channels = [part for part in parts if isinstance(part.variable, Field)]
    pictures = []
    if scalars:
        pictures.append(_recovery_picture(spec.vectors, held_out))
    if channels:
        pictures.append(_error_picture(channels))
    return HeldOutRecovery([_row(part) for part in (*scalars, *channels)], pictures, n, observations)


@dataclass(frozen=True)
class _Part:
    """One scalar, or one channel of a field, and what was seen of it."""

    variable: Variable
    index: int
    recovery: RecoveryTally
    errors: ErrorTally

    @staticmethod
    def of(variable: Variable, index: int, held_out: HeldOut) -> _Part:
        n, observations, parts, *pixels = held_out.draws.shapes[variable.name]
        del parts
        return _Part(variable, index, RecoveryTally(n, n * observations * math.prod(pixels)), ErrorTally())

    def take(self, truth: Array, draws: Array) -> None:
        """Take in truths (b, *shape) and draws (n, b, *shape) of the whole variable."""
        n, b = draws.shape[:2]
        data = truth[:, self.index].reshape(b, -1), draws[:, :, self.index].reshape(n, b, -1)
        self.recovery.take(*data)
        if isinstance(self.variable, Field):
            self.errors.take(*data)


def _indices(variable: Variable) -> range:
    return range(variable.shape[0])


def _row(part: _Part) -> RecoveryRow:
    found: Recovery = part.recovery.found()
    texts = (_estimate(e) for e in (found.bias, found.scatter, found.coverage, found.width))
    if isinstance(part.variable, Vector):
        return RecoveryRow(labels_html(part.variable)[part.index], *texts)
    return RecoveryRow(short_title(part.variable, part.index), *texts)


def _estimate(estimate: Estimate) -> EstimateText:
    offset = estimate.offset
    return EstimateText(
        text=plus_minus(estimate.value, estimate.error),
        ideal="" if estimate.ideal is None else f"{estimate.ideal:.3g}",
        off="" if offset is None else signed(offset, 1),
        far=offset is not None and abs(offset) > FAR,
    )


def _recovery_picture(vectors: Sequence[Vector], held_out: HeldOut) -> Picture:
    labels = math_labels(vectors)
    units = [unit for vector in vectors for unit in vector.units]
    truth = columns(vectors, held_out.truth)
    draws = columns(vectors, {one.name: held_out.draws[one.name].numpy() for one in vectors})
    return make_picture(
        "recovery_parameters",
        "Inferred against true parameters of held-out simulations",
        "Posterior mean (dot) and 68 % interval (bar) against the truth, one dot a held-out simulation.",
        "bars that meet the dashed line in two cases of three. A slope below one is no error: where "
        "data say little, the posterior mean stays near the prior's.",
        lambda layout: recovery_plot(labels, units, truth, draws, layout),
    )


def _error_picture(parts: Sequence[_Part]) -> Picture:
    found = [part.errors.found() for part in parts]
    of = [(part.variable, part.index) for part in parts if isinstance(part.variable, Field)]
    titles = [field_label(one, channel) for one, channel in of]
    units = [one.unit for one, _ in of]
    noun = cells(*(one for one, _ in of))
    return make_picture(
        "recovery_fields",
        "Actual against claimed error of the fields",
        "Root mean square error of the posterior mean against the standard deviation that the draws claim, "
        f"in bins of {noun}; error bars from the scatter between held-out simulations.",
        "points on the dashed line. Above it the draws are too narrow, below it too wide.",
        lambda layout: error_plot(titles, units, found, layout),
    )
