"""Does a simulator work everywhere in its prior? Points of the prior, its faces and its corners tell."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.special import ndtr

from sbikit.problem.errors import SimulationError
from sbikit.problem.seeds import draw_seeds, normals
from sbikit.roles.monitor import Monitor
from sbikit.roles.simulator import Simulator
from sbikit.simulations.checked import run_simulator
from sbikit.testing.promises import ContractError

# A fault in 1 % of the prior is missed by one check in 28,000, in .3 % by one in 20.
POINTS = 1024
SECONDS = 20.0  # after which a slow simulator is asked no more
AT_ONCE = 32  # between two looks at the clock
# White coordinates. One in 740 draws lies beyond a face, one in 44 beyond each side of a corner: a training
# set has some of either.
_FACE, _CORNER = 3.0, 2.0
_CORNERS = 64  # of more than six parameters' only some


@dataclass(frozen=True)
class Failure:
    """A point where the simulator fails: its white coordinates (D,), and what it says."""

    z: Tensor
    error: SimulationError


def check_whole_prior(simulator: Simulator, where: str, monitor: Monitor) -> None:
    """Simulate points of the whole prior, as many as `SECONDS` allow.

    Raises:
        ContractError: the simulator raises, or returns what is not finite, at some of them; with how many
            they are and where they lie.
    """
    points = white_points(len(simulator.prior.laws))
    seeds = draw_seeds(0, "contract/prior", 0, len(points))
    failures: list[Failure] = []
    began, done = time.monotonic(), 0
    with monitor.progress("simulating the whole prior", len(points)) as advance:
        while done < len(points) and (done == 0 or time.monotonic() - began < SECONDS):
            part = slice(done, done + AT_ONCE)
            failures += _failures(simulator, points[part], seeds[part])
            done = min(len(points), done + AT_ONCE)
            advance(AT_ONCE)
    if failures:
        raise _refusal(simulator, failures, done, where)
    monitor.say(f"{where}: finite at {done} points of the prior, its faces and corners among them")


def white_points(D: int) -> Tensor:
    """Points (P, D) in white coordinates: a few of the prior, its faces and corners, many of the prior."""
    inside = normals(draw_seeds(0, "contract/prior points", 0, POINTS), (D,)).double()
    faces = inside[: 2 * D].clone()
    for i in range(D):
        faces[2 * i, i], faces[2 * i + 1, i] = _FACE, -_FACE
    if 2**D <= _CORNERS:
        corners = torch.tensor(list(product((-_CORNER, _CORNER), repeat=D)), dtype=torch.float64)
    else:
        corners = _CORNER * normals(draw_seeds(0, "contract/corners", 0, _CORNERS), (D,)).double().sign()
    return torch.cat([inside[:AT_ONCE], faces, corners, inside[AT_ONCE:]])


def _failures(simulator: Simulator, z: Tensor, seeds: NDArray[np.int64]) -> list[Failure]:
    def run(rows: slice) -> None:
        theta = simulator.prior.from_white(z[rows]).float()
        run_simulator(simulator, {simulator.prior.name: theta}, seeds[rows])

    try:
        run(slice(None))
    except SimulationError as whole:
        found = []
        for row in range(len(z)):
            try:
                run(slice(row, row + 1))
            except SimulationError as error:
                found.append(Failure(z[row], error))
        return found or [Failure(z[0], whole)]
    return []


def _refusal(simulator: Simulator, failures: list[Failure], done: int, where: str) -> ContractError:
    share = 100.0 * len(failures) / done
    first = failures[0].error
    if len(failures) == done:  # no matter where
        return ContractError(
            first.message, where=first.where, expected=first.expected, got=first.got, fix=first.fix
        )
    return ContractError(
        f"The simulator fails at {len(failures)} of {done} points of its prior ({share:.2g} %).",
        where=f"{where} at {places(simulator, torch.stack([one.z for one in failures]))}",
        expected="finite outputs for every parameter vector of the prior",
        got=f"{first.message} {first.where}",
        fix="mend the simulator there, or narrow its prior",
    )


def places(simulator: Simulator, z: Tensor) -> str:
    """Where points (P, D) in white coordinates lie: ranges of the parameters, the most telling ones first."""
    theta = simulator.prior.from_white(z)
    share = ndtr(simulator.prior.to_marginal(theta))
    low, high = share.amin(0), share.amax(0)
    labels = list(simulator.prior.laws)
    order = (high - low).argsort().tolist()
    return ", ".join(
        f"{labels[i]} from {float(theta[:, i].min()):.4g} to {float(theta[:, i].max()):.4g} "
        f"({100 * float(low[i]):.3g} to {100 * float(high[i]):.3g} % of its prior)"
        for i in order
    )
