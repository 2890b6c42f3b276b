"""Simulations as an endless stream: draw i of a stream depends on (seed, stream, i) alone.

The training stream and the held-out stream never share a seed, so what a result is reported on
is fixed by the run's seed and is never seen in training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbikit.problem.seeds import draw_seeds
from sbikit.problem.variables import Values
from sbikit.roles.monitor import Monitor
from sbikit.roles.simulator import Simulator
from sbikit.simulations.checked import run_simulator
from sbikit.simulations.seeding import check_seeding


class Simulations:
    """The streams of one simulator and one seed.

    Args:
        simulator: draws the outputs.
        seed: seed of the run.
    """

    def __init__(self, simulator: Simulator, seed: int) -> None:
        self.simulator = simulator
        self.spec = simulator.spec
        self.seed = seed
        self.size: int | None = None

    def training(self, first: int, count: int) -> dict[str, Tensor]:
        """Draws `first` to `first + count - 1` of the training stream, each (count, *shape)."""
        return self._draw("training", first, count)

    def held_out(self, first: int, count: int) -> dict[str, Tensor]:
        """The same of the held-out stream, which no estimator may see."""
        return self._draw("held-out", first, count)

    def batches(self, size: int, start: int = 0) -> Iterator[dict[str, Tensor]]:
        """Batches `start`, `start + 1`, ... of the training stream, without end."""
        while True:
            yield self.training(start * size, size)
            start += 1

    def check(self, batch: Values, monitor: Monitor) -> None:
        """Draw one of the first held-out draws again, alone: does it depend on its seed, and on it alone?

        Args:
            batch: the first draws of the held-out stream, each (B, *shape).
            monitor: hears of outputs without noise, or without any variation.

        Raises:
            SimulationError: the draw is another one.
        """
        name, outputs = f"{type(self.simulator).__name__}.simulate", self.simulator.outputs
        theta = batch[self.simulator.prior.name]

        def draw(rows: Sequence[int], seeds: NDArray[np.int64]) -> Values:
            return run_simulator(self.simulator, {self.simulator.prior.name: theta[list(rows)]}, seeds)

        seeds = draw_seeds(self.seed, "held-out/simulator", 0, len(theta))
        if not check_seeding(outputs, batch, draw, seeds, name):
            monitor.say(
                f"{name}: another seed gives the same outputs, so it has no noise or ignores its seeds"
            )
        for variable in outputs:
            rows = batch[variable.name]
            if len(rows) > 1 and torch.equal(rows, rows[:1].expand_as(rows)):
                monitor.say(f"{name}: {variable.name} is the same in each of the first {len(rows)} draws")

    def _draw(self, stream: str, first: int, count: int) -> dict[str, Tensor]:
        prior = self.simulator.prior
        parameters = prior.sample(draw_seeds(self.seed, f"{stream}/parameters", first, count))
        seeds = draw_seeds(self.seed, f"{stream}/simulator", first, count)
        outputs = run_simulator(self.simulator, parameters, seeds, first=first)
        return {**parameters, **outputs}
