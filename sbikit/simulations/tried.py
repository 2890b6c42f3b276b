"""A batch of draws is tried: the good ones, and why the others failed.

A draw fails where the simulator raises or returns what is not finite. What another draw would not mend (an
output that is missing, of the wrong shape, complex, not resolved by float32, outside of its support) is no
failure of a draw and stays an error.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbikit.problem.copies import copied
from sbikit.problem.errors import SbikitError, SimulationError
from sbikit.problem.gaps import seen_of
from sbikit.problem.variables import Values
from sbikit.roles.simulator import Simulator, method_of
from sbikit.simulations.resolution import check_fill, check_resolution
from sbikit.simulations.returned import finite_rows, returned

_MOST_WORDS = 400  # characters of what a simulator says of one draw


@dataclass(frozen=True)
class Failure:
    """Why a draw failed.

    Args:
        kind: what happened.
        words: the same with the particulars.
        error: the same as an error, for those who want every draw.
    """

    kind: Literal["not finite", "raised", "timeout"]
    words: str
    error: SimulationError = field(compare=False, repr=False)


@dataclass(frozen=True)
class Tried:
    """A batch of B draws that was tried.

    Args:
        outputs: float32, each (B, *shape), zeros in failed rows.
        failures: number of the row -> why it failed.
        seconds: wall time of each draw, (B,); of draws that ran together the mean.
        alone: what the batch raised although none of its draws raises alone; None as a rule.
    """

    outputs: dict[str, Tensor]
    failures: dict[int, Failure]
    seconds: NDArray[np.float64]
    alone: SimulationError | None = None


def try_batch(
    simulator: Simulator, parameters: Values, seeds: NDArray[np.int64], draws: NDArray[np.int64]
) -> Tried:
    """Run `simulator.simulate` on copies, and check what comes back.

    Where the batch raises, its rows are run alone: a draw is the same alone and in a batch.

    Args:
        simulator: the simulator.
        parameters: (B, D), B of at least 1.
        seeds: (B,).
        draws: (B,) numbers of the draws, for messages.

    Raises:
        SimulationError: something is wrong that another draw would not mend.
        SbikitError: the simulator raised one that is no SimulationError.
    """
    batch = _Batch(simulator, parameters, seeds, draws)
    began = time.perf_counter()
    try:
        wide = batch.run(slice(None))
    except _Raised as raised:
        return batch.alone(raised.error)
    seconds = np.full(len(seeds), (time.perf_counter() - began) / len(seeds))
    return batch.tried(wide, {}, seconds)


class _Raised(Exception):
    """The simulator's own code raised."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


class _Batch:
    def __init__(
        self,
        simulator: Simulator,
        parameters: Values,
        seeds: NDArray[np.int64],
        draws: NDArray[np.int64],
    ) -> None:
        self._simulator, self._parameters, self._seeds, self._draws = simulator, parameters, seeds, draws
        self._method = method_of(simulator)
        self._where = f"draws {draws[0]} to {draws[-1]}"

    def run(self, rows: slice) -> dict[str, Tensor]:
        """What comes back for some of the rows, checked but for its values."""
        parameters = copied({name: value[rows] for name, value in self._parameters.items()})
        seeds = self._seeds[rows].copy()
        try:
            raw = self._simulator.simulate(parameters, seeds=seeds)
        except SbikitError as error:
            if not isinstance(error, SimulationError):
                raise
            raise _Raised(error) from error
        except (Exception, SystemExit) as error:
            raise _Raised(error) from error
        return returned(self._simulator, raw, len(seeds), self._where)

    def alone(self, error: BaseException) -> Tried:
        """Every row by itself, since all together raised."""
        rows: list[dict[str, Tensor]] = []
        failures: dict[int, Failure] = {}
        seconds = np.zeros(len(self._seeds))
        for row in range(len(self._seeds)):
            began = time.perf_counter()
            try:
                rows.append(self.run(slice(row, row + 1)))
            except _Raised as raised:
                failures[row] = self._raised(raised.error, self._described(row))
                rows.append({v.name: torch.zeros(1, *v.shape) for v in self._simulator.drawn})
            seconds[row] = time.perf_counter() - began
        wide = {v.name: torch.cat([row[v.name] for row in rows]) for v in self._simulator.drawn}
        together = None if failures else self._raised(error, self._where).error
        return self.tried(wide, failures, seconds, together)

    def tried(
        self,
        wide: dict[str, Tensor],
        failures: dict[int, Failure],
        seconds: NDArray[np.float64],
        alone: SimulationError | None = None,
    ) -> Tried:
        """Outputs as they were returned, each (B, *shape), as float32; rows that are not finite fail."""
        for row in (~finite_rows(wide)).nonzero().flatten().tolist():
            failures[row] = self._not_finite(wide, row)
        good = [row for row in range(len(seconds)) if row not in failures]
        outputs: dict[str, Tensor] = {}
        for variable in self._simulator.drawn:
            tensor = wide[variable.name]
            check_resolution(
                variable,
                tensor[good] if failures else tensor,
                first=int(self._draws[0]),
                where=f"{self._method}, {self._where}",
            )
            if variable.fill is not None and self._draws[0] == 0:
                check_fill(variable, tensor, wide[seen_of(variable).name], f"{self._method}, {self._where}")
            outputs[variable.name] = tensor.to(torch.float32).clone(memory_format=torch.contiguous_format)
            outputs[variable.name][list(failures)] = 0.0
        return Tried(outputs, failures, seconds, alone)

    def _raised(self, error: BaseException, where: str) -> Failure:
        words = f"{type(error).__name__}: {error}"
        if type(error) is SimulationError:
            return Failure("raised", error.message[:_MOST_WORDS], error)
        refusal = SimulationError(
            f"{self._method} raised {words}",
            where=where,
            expected="outputs for every parameter vector of the prior",
            fix="mend the simulator or narrow its prior; what was done before is kept",
        )
        refusal.__cause__ = error
        return Failure("raised", words[:_MOST_WORDS], refusal)

    def _not_finite(self, wide: dict[str, Tensor], row: int) -> Failure:
        for variable in self._simulator.drawn:
            values = wide[variable.name][row]
            if bad := int((~values.isfinite()).sum()):
                break
        got = f"{bad} of {values.numel()} values NaN or infinite"
        error = SimulationError(
            f"{self._method} returned values of {variable.name!r} that are not finite.",
            where=self._described(row),
            expected="finite numbers",
            got=got,
            fix="mend the simulator there or narrow its prior; what was done before is kept",
        )
        return Failure("not finite", f"{variable.name}: {got}", error)

    def _described(self, row: int) -> str:
        return describe_draw(self._simulator, self._parameters, self._seeds, self._draws, row)


def describe_draw(
    simulator: Simulator,
    parameters: Values,
    seeds: NDArray[np.int64],
    draws: NDArray[np.int64],
    row: int,
) -> str:
    """Number, parameters and seed of the draw in `row` of a batch, for messages."""
    theta = parameters[simulator.prior.name][row].tolist()
    values = (f"{label}={value:.6g}" for label, value in zip(simulator.prior.laws, theta, strict=True))
    return f"draw {draws[row]} ({', '.join(values)}; seed {int(seeds[row])})"
