"""Simulations as an endless stream: draw i of a stream depends on (seed, stream, i) alone.

The training stream and the held-out stream never share a seed, so what a result is reported on
is fixed by the run's seed and is never seen in training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor

from sbikit.problem.seeds import draw_seeds
from sbikit.problem.variables import Values
from sbikit.roles.simulator import Simulator
from sbikit.simulations.checked import run_simulator


class Simulations:
    """The streams of one simulator and one seed.

    Args:
        simulator: draws the outputs.
        seed: seed of the run.
        watch: told of every piece of the training stream, its first draw and the draws.
    """

    def __init__(
        self, simulator: Simulator, seed: int, *, watch: Callable[[int, Values], None] | None = None
    ) -> None:
        self.simulator = simulator
        self.spec = simulator.spec
        self.seed = seed
        self._watch = watch

    def training(self, first: int, count: int) -> dict[str, Tensor]:
        """Draws `first` to `first + count - 1` of the training stream, each (count, *shape)."""
        draws = self._draw("training", first, count)
        if self._watch is not None:
            self._watch(first, draws)
        return draws

    def held_out(self, first: int, count: int) -> dict[str, Tensor]:
        """The same of the held-out stream, which no estimator may see."""
        return self._draw("held-out", first, count)

    def batches(self, size: int, start: int = 0) -> Iterator[dict[str, Tensor]]:
        """Batches `start`, `start + 1`, ... of the training stream, without end."""
        while True:
            yield self.training(start * size, size)
            start += 1

    def _draw(self, stream: str, first: int, count: int) -> dict[str, Tensor]:
        prior = self.simulator.prior
        parameters = prior.sample(draw_seeds(self.seed, f"{stream}/parameters", first, count))
        seeds = draw_seeds(self.seed, f"{stream}/simulator", first, count)
        outputs = run_simulator(self.simulator, parameters, seeds, first=first)
        return {**parameters, **outputs}
