"""The simulator `table`, which cannot simulate."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from sbikit import (
    Field,
    Law,
    LogNormal,
    Normal,
    OptionError,
    Prior,
    Simulator,
    TruncatedNormal,
    Uniform,
    UnsupportedError,
    Values,
    Variable,
    Vector,
)
from sbikit_table.options import FieldOptions, LawOptions, TableOptions, VectorOptions
from sbikit_table.reading import Shapes, kinds, laws, read_shapes


class Table(Simulator[TableOptions]):
    """Joint draws that were made elsewhere.

    Raises:
        OptionError: options and file do not say, or do not agree on, what the arrays are.
        ObservationError: the file cannot be read.
    """

    def __init__(self, options: TableOptions | None = None) -> None:
        super().__init__(options)
        o = self.options
        shapes = None if o.file is None else read_shapes(o.file, o.parameters)
        found = laws(o, shapes)
        self.prior = Prior(
            {name: _law(one) for name, one in found.items()},
            name=o.parameters,
            latex={name: one.latex or name for name, one in found.items()},
            units={name: one.unit for name, one in found.items()},
        )
        self.outputs = tuple(_variable(name, kind, shapes) for name, kind in kinds(o, shapes).items())
        self.observed = o.observed or _only(self.outputs)

    def given_draws(self) -> Path | None:
        """See `sbikit.SupportsGivenDraws`."""
        return self.options.file

    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> NoReturn:
        """Refused.

        Raises:
            UnsupportedError: always.
        """
        raise UnsupportedError(
            "A table cannot simulate: it has the draws that were imported, and no others.",
            where="simulator 'table'",
            fix="ask for fewer simulations and held-out observations, or import more draws",
        )


def _law(o: LawOptions) -> Law:
    low, high = (-math.inf if o.low is None else o.low), (math.inf if o.high is None else o.high)
    if o.law == "uniform":
        return Uniform(low, high)
    if o.law == "log-normal":
        return LogNormal(o.median or math.nan, o.sigma or math.nan)
    mean, sd = (math.nan if number is None else number for number in (o.mean, o.sd))
    return Normal(mean, sd) if o.law == "normal" else TruncatedNormal(mean, sd, low, high)


def _variable(name: str, kind: FieldOptions | VectorOptions, shapes: Shapes | None) -> Variable:
    shape = None if shapes is None else shapes.shapes[name]
    return _field(name, kind, shape) if isinstance(kind, FieldOptions) else _vector(name, kind, shape)


def _field(name: str, o: FieldOptions, shape: tuple[int, ...] | None) -> Field:
    grid = o.grid or (None if shape is None else shape[0 if o.channels is None else 1 :])
    if not grid:
        raise OptionError(
            f"The grid of {name!r} is not known.",
            where=f"simulator.fields.{name}",
            expected="`grid`, or a file with an array (N, *grid), (N, C, *grid) where `channels` is given",
            got="neither" if shape is None else f"an array (N, {', '.join(map(str, shape))})",
        )
    found = Field(
        name,
        tuple(grid),
        channels=o.channels or 1,
        extent=o.extent,
        unit=o.unit,
        extent_unit=o.extent_unit,
        latex=o.latex,
        stationary=o.stationary,
        periodic=o.periodic,
        fill=o.fill,
    )
    if shape is not None and math.prod(found.shape) != math.prod(shape):
        raise _mismatch(name, found.shape, shape, "fields")
    return found


def _vector(name: str, o: VectorOptions, shape: tuple[int, ...] | None) -> Vector:
    labels = o.labels
    if labels is None:
        if shape is None:
            raise OptionError(
                f"The length of {name!r} is not known.",
                where=f"simulator.vectors.{name}",
                expected="`labels`, or `file`",
            )
        count = math.prod(shape)
        labels = (name,) if count == 1 else tuple(f"{name}_{i + 1}" for i in range(count))
    if shape is not None and len(labels) != math.prod(shape):
        raise _mismatch(name, (len(labels),), shape, "vectors")
    return Vector(name, labels, units=o.units, fill=o.fill)


def _mismatch(name: str, told: tuple[int, ...], shape: tuple[int, ...], section: str) -> OptionError:
    return OptionError(
        f"What is told of {name!r} does not fit the table.",
        where=f"simulator.{section}.{name}",
        expected=f"what fits an array (N, {', '.join(map(str, shape))})",
        got=f"a draw of shape {told}",
    )


def _only(outputs: tuple[Variable, ...]) -> tuple[str, ...]:
    if len(outputs) != 1:
        raise OptionError(
            "It is not known which arrays are observed.",
            where="simulator.observed",
            expected="names of " + (", ".join(v.name for v in outputs) or "arrays beside the parameters"),
            fix="--set 'simulator.observed=[NAME]'",
        )
    return (outputs[0].name,)
