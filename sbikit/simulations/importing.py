"""Joint draws that were made elsewhere, as attempts at the draws of a store: checked, and in a random order.

Whoever made them may have made them in an order, along a grid of parameters; the first so many must be draws
of the same law as all. So draw i is row p[i] of the file, p a permutation that depends on the seed alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbikit.problem.errors import ObservationError, SbikitError, SimulationError
from sbikit.problem.seeds import derive_seed
from sbikit.problem.variables import Values, Variable
from sbikit.roles.simulator import Simulator
from sbikit.simulations.attempts import Attempts
from sbikit.simulations.tried import try_batch
from sbikit.storage.named_arrays import NamedArrays, open_arrays
from sbikit.storage.seals import file_digest


@dataclass(frozen=True)
class DrawsFile:
    """Joint draws in a file.

    Args:
        file: of named arrays, see `sbikit.storage.open_arrays`: one a variable, (N, *shape), or any other
            shape of as many numbers a row.
        draws: N.
        content: digest of the file.
    """

    file: Path
    draws: int
    content: str

    @classmethod
    def of(cls, file: Path, simulator: Simulator) -> DrawsFile:
        """The draws of a simulator in a file.

        Raises:
            ObservationError: it cannot be read, or holds no draws of this simulator.
        """
        with open_arrays(file) as arrays:
            return cls(file, _count(arrays, simulator), file_digest(file))


def import_draws(
    given: DrawsFile, simulator: Simulator, seed: int, draws: range, at_once: int
) -> Iterator[Attempts]:
    """Some of the draws, their row in the file in place of a seed, `at_once` at a time.

    Args:
        given: where they are.
        simulator: whose draws they are.
        seed: fixes their order.
        draws: which, one after the other.
        at_once: draws of a block.

    Raises:
        ObservationError: the file cannot be read, holds no draws of this simulator, or parameters that its
            prior cannot give.
    """
    with open_arrays(given.file) as arrays:
        order = np.random.default_rng(derive_seed(seed, "import")).permutation(_count(arrays, simulator))
        for start in draws[::at_once]:
            rows = order[start : min(start + at_once, draws.stop)]
            yield _Block(simulator, arrays, rows, start).attempts()


def _count(arrays: NamedArrays, simulator: Simulator) -> int:
    wanted = (simulator.prior.variable, *simulator.outputs)
    missing = [v.name for v in wanted if v.name not in arrays]
    if missing:
        raise ObservationError(
            "The file lacks arrays.",
            where=str(arrays.path),
            expected=", ".join(v.name for v in wanted),
            got=", ".join(arrays) or "no arrays",
            fix="name the arrays as the simulator names its variables",
        )
    shapes = {v.name: tuple(arrays[v.name].shape) for v in wanted}
    lengths = {name: shape[0] if shape else 0 for name, shape in shapes.items()}
    if len(set(lengths.values())) > 1 or not min(lengths.values()):
        raise ObservationError(
            "The arrays of the file do not have one row a draw.",
            where=str(arrays.path),
            expected="as many rows in each, at least one",
            got=", ".join(f"{name}: {length:,}" for name, length in lengths.items()),
        )
    for variable in wanted:
        _check_shape(variable, shapes[variable.name], arrays.path)
    return next(iter(lengths.values()))


def _check_shape(variable: Variable, shape: tuple[int, ...], path: Path) -> None:
    """Axes of length one may be there or not; all else must be as the variable declares it."""
    if [n for n in shape[1:] if n != 1] != [n for n in variable.shape if n != 1]:
        raise ObservationError(
            f"The array {variable.name!r} has the wrong shape.",
            where=str(path),
            expected=f"(N, {', '.join(map(str, variable.shape))})",
            got=str(shape),
            fix="reshape it, or declare the variable as it is",
        )


class _Block:
    """Some rows of a file as draws `first`, `first + 1`, ..."""

    def __init__(
        self, simulator: Simulator, arrays: NamedArrays, rows: NDArray[np.int64], first: int
    ) -> None:
        self._simulator, self._path, self._rows, self._first = simulator, arrays.path, rows, first
        ascending = np.argsort(rows)
        back = np.argsort(ascending)
        self._values = {
            v.name: self._numbers(v, np.asarray(arrays[v.name][rows[ascending]])[back])
            for v in (simulator.prior.variable, *simulator.outputs)
        }

    def _numbers(self, variable: Variable, array: NDArray[Any]) -> NDArray[Any]:
        if array.dtype.kind not in "biuf":
            raise ObservationError(
                f"The array {variable.name!r} holds no real numbers.",
                where=str(self._path),
                expected="real numbers",
                got=f"type {array.dtype}",
            )
        return array.reshape(len(array), *variable.shape)

    def attempts(self) -> Attempts:
        """Checked as what a simulator returns is; rows that are not finite have failed."""
        parameters = self._parameters()
        draws = np.arange(self._first, self._first + len(self._rows))
        try:
            tried = try_batch(_Imported(self._simulator, self._values), parameters, self._rows, draws)
        except SimulationError as error:
            raise ObservationError(
                error.message.replace("_Imported.simulate returned", "The file holds"),
                where=f"{self._path}, {error.where.removeprefix('_Imported.simulate, ')} in their new order",
                expected=error.expected,
                got=error.got,
                fix=error.fix.replace("the simulator", "the file"),
            ) from None
        return Attempts(self._first, parameters, self._rows, tried.outputs, tried.failures, tried.seconds)

    def _parameters(self) -> dict[str, Tensor]:
        prior = self._simulator.prior
        wide = torch.from_numpy(self._values[prior.name].astype(np.float64))
        for label, law, column in zip(prior.laws, prior.laws.values(), wide.unbind(1), strict=True):
            rounding = 1e-6 * max(abs(law.low), abs(law.high)) if np.isfinite(law.low + law.high) else 0.0
            outside = ~((column >= law.low - rounding) & (column <= law.high + rounding))
            if bool(outside.any()):
                row = int(outside.nonzero()[0])
                raise ObservationError(
                    f"Parameters of the file lie outside of their prior: {label}.",
                    where=f"{self._path}, row {self._rows[row]}",
                    expected=f"{law.low:.6g} to {law.high:.6g}",
                    got=f"{float(column[row]):.6g}",
                    fix="tell the prior that the draws come from, or take those rows out",
                )
        return {prior.name: prior.rounded(wide)}


class _Imported(Simulator):
    """Gives the rows that it has."""

    def __init__(self, simulator: Simulator, values: Mapping[str, NDArray[Any]]) -> None:
        super().__init__()
        self.prior, self.outputs, self.observed = simulator.prior, simulator.outputs, simulator.observed
        self._values = values

    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """All of them, whatever the seeds."""
        if len(seeds) != len(parameters[self.prior.name]):
            raise SbikitError("There must be one row a seed.", where="import")
        return {v.name: self._values[v.name] for v in self.outputs}
