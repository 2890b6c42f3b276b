"""What a table holds: from the options, and where they are silent from the file itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from sbikit import OptionError
from sbikit.storage import NamedArrays, open_arrays
from sbikit_table.options import FieldOptions, LawOptions, TableOptions, VectorOptions

# Arrays that say something of the parameters, and are no variables.
LABELS, LOW, HIGH = "labels", "prior_low", "prior_high"


@dataclass(frozen=True)
class Shapes:
    """The arrays of a file.

    Args:
        path: the file.
        shapes: array -> its shape without the axis of draws.
        labels: of the parameters, None where the file does not say.
        bounds: lowest and highest value of each parameter; None likewise.
        ranges: least and largest value of each parameter in the table, for messages.
    """

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    labels: tuple[str, ...] | None
    bounds: tuple[tuple[float, float], ...] | None
    ranges: tuple[tuple[float, float], ...]


def read_shapes(path: Path, parameters: str) -> Shapes:
    """Look at a file of named arrays.

    Raises:
        ObservationError: it cannot be read.
        OptionError: it has no such parameters, or arrays of different lengths.
    """
    with open_arrays(path) as arrays:
        beside = {name for name in (LABELS, LOW, HIGH) if name in arrays}
        rows = {name: array for name, array in arrays.items() if name not in beside and array.shape}
        if parameters not in rows:
            _refuse(
                "The table has no such array of parameters.",
                "parameters",
                expected="one of " + (", ".join(rows) or "no arrays at all"),
                got=parameters,
                fix=f"--set simulator.parameters=NAME, or name the array {parameters!r}",
            )
        lengths = {name: array.shape[0] for name, array in rows.items()}
        if len(set(lengths.values())) > 1:
            _refuse(
                "The arrays of the table have different numbers of draws.",
                "file",
                expected="one row a draw in every array",
                got=", ".join(f"{name}: {length:,}" for name, length in lengths.items()),
                fix="leave out what is no variable, or cut them to one length",
            )
        theta = np.asarray(rows[parameters][:]).reshape(lengths[parameters], -1)
        return Shapes(
            path,
            {name: tuple(array.shape[1:]) for name, array in rows.items()},
            tuple(str(label) for label in arrays[LABELS][:]) if LABELS in beside else None,
            _bounds(arrays) if {LOW, HIGH} <= beside else None,
            tuple((float(column.min()), float(column.max())) for column in theta.T) if len(theta) else (),
        )


def _bounds(arrays: NamedArrays) -> tuple[tuple[float, float], ...]:
    low, high = (np.asarray(arrays[name][:], dtype=np.float64).ravel() for name in (LOW, HIGH))
    return tuple(zip(low.tolist(), high.tolist(), strict=False))


def laws(options: TableOptions, shapes: Shapes | None) -> dict[str, LawOptions]:
    """Parameter -> its law.

    Raises:
        OptionError: neither the options nor the file say, or they disagree with the number of columns.
    """
    if shapes is None:
        if options.prior is None:
            _refuse(
                "Neither options nor a file say what the parameters are.",
                "prior",
                expected="a law for every parameter, or `file`",
                fix=_LINES,
            )
        return options.prior
    count = int(np.prod(shapes.shapes[options.parameters]))
    if options.prior is not None:
        _agree("prior", len(options.prior), count, shapes)
        return options.prior
    if shapes.bounds is None:
        names = shapes.labels or tuple(f"{options.parameters}_{i + 1}" for i in range(count))
        seen = ", ".join(f"{n}: {a:.6g} to {b:.6g}" for n, (a, b) in zip(names, shapes.ranges, strict=False))
        _refuse(
            "The prior of the parameters is not known.",
            "prior",
            expected="the law that the draws come from",
            got=f"{count} parameters; the draws span {seen}",
            fix=_LINES + f"; or arrays {LOW!r} and {HIGH!r} in the file",
        )
    _agree(f"arrays {LOW} and {HIGH}", len(shapes.bounds), count, shapes)
    labels = shapes.labels or tuple(f"{options.parameters}_{i + 1}" for i in range(count))
    _agree(f"array {LABELS}", len(labels), count, shapes)
    return {
        label: LawOptions(low=low, high=high)
        for label, (low, high) in zip(labels, shapes.bounds, strict=True)
    }


_LINES = "tell it in the configuration, simulator.prior: {Omega_m: {low: 0.1, high: 0.5}, ...}"


def kinds(options: TableOptions, shapes: Shapes | None) -> dict[str, FieldOptions | VectorOptions]:
    """Array -> what it is, of every array but the parameters, in the order of the file.

    Raises:
        OptionError: the options name arrays that the file has not got, or an array both ways.
    """
    told: dict[str, FieldOptions | VectorOptions] = {**options.fields, **options.vectors}
    both = sorted(set(options.fields) & set(options.vectors))
    if both:
        _refuse(
            "An array is told to be a field and a vector.", "fields", got=", ".join(both), fix="choose one"
        )
    if shapes is None:
        return told
    there = [name for name in shapes.shapes if name != options.parameters]
    unknown = [name for name in (*told, *options.observed) if name not in there]
    if unknown:
        _refuse(
            "The options name arrays that the table has not got.",
            "fields, vectors or observed",
            expected="some of " + (", ".join(there) or "no arrays at all"),
            got=", ".join(unknown),
        )
    guessed = {name: FieldOptions() if len(shapes.shapes[name]) > 1 else VectorOptions() for name in there}
    return {name: told.get(name, guessed[name]) for name in there}


def _agree(what: str, found: int, count: int, shapes: Shapes) -> None:
    if found != count:
        _refuse(
            f"{what} does not fit the parameters.",
            what,
            expected=f"{count} entries, as many as the parameters in {shapes.path}",
            got=str(found),
        )


def _refuse(message: str, option: str, *, expected: str = "", got: str = "", fix: str = "") -> NoReturn:
    raise OptionError(message, where=f"simulator.{option}", expected=expected, got=got, fix=fix)
