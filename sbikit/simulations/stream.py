"""Simulations as an endless stream: draw i of a stream depends on (seed, stream, i) alone.

The training stream and the held-out stream never share a seed, so what a result is reported on
is fixed by the run's seed and is never seen in training.

Where draws may fail, those that do are left out and attempted again with seeds of their own (see `drawing`).
Where there are several workers, the training stream is drawn ahead: after two requests in a row for equally
many draws the next few of them are begun, so that training does not wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbikit.problem.seeds import draw_seeds
from sbikit.problem.spec import Spec
from sbikit.problem.variables import Values
from sbikit.roles.monitor import Monitor
from sbikit.roles.simulator import Simulator, method_of
from sbikit.simulations.attempts import Given
from sbikit.simulations.drawing import Drawing, Range
from sbikit.simulations.left_out import LeftOut
from sbikit.simulations.seeding import check_seeding
from sbikit.simulations.trying import simulating
from sbikit.workers.here import Here
from sbikit.workers.pool import Done, Pool, Task

_AHEAD = 4  # requests: two while one is trained on would do, if all took equally long


class Simulations:
    """The streams of one simulator and one seed.

    Args:
        simulator: draws the outputs.
        seed: seed of the run.
        max_failures: the largest share of draws that may fail, up to 0.9. By default none may, and the first
            that does is an error: to leave draws out changes the law that is inferred, so it is for the
            caller to allow.
        timeout: seconds after which a draw counts as failed; None: never. Draws with a limit run in a process
            of their own.
        workers: opens the pool of workers that simulate, whose recipe is `simulating(simulator)`, when the
            first draw is asked for; None: this process. Close the stream where there are any.
        left_out: the record of failures, in place of one made with `max_failures`.

    Raises:
        OptionError: `max_failures` is out of range.
    """

    def __init__(
        self,
        simulator: Simulator,
        seed: int,
        *,
        max_failures: float = 0.0,
        timeout: float | None = None,
        workers: Callable[[], Pool] | None = None,
        left_out: LeftOut | None = None,
    ) -> None:
        self.simulator = simulator
        self.spec = simulator.spec
        self.seed = seed
        self.size: int | None = None
        self.left_out = LeftOut(max_failures) if left_out is None else left_out
        self._timeout = timeout
        self._workers = workers
        self._under_way: tuple[Drawing, Pool] | None = None
        self._ahead: dict[tuple[int, int], Range] = {}
        self._last: tuple[int, int] | None = None
        self._held_out_seeds: dict[int, NDArray[np.int64]] = {}

    def training(self, first: int, count: int) -> dict[str, Tensor]:
        """Draws `first` to `first + count - 1` of the training stream, each (count, *shape).

        Raises:
            SimulationError: draws fail, more than may; or something is wrong that another draw would not
                mend.
        """
        if not count:
            return _nothing(self.spec)
        drawing, pool = self._drawing()
        wanted = self._ahead.pop((first, count), None)
        if wanted is None:
            self._ahead.clear()
            drawing.forget()
            wanted = drawing.begin("training", first, count)
        if pool.workers > 1 and self._last == (first - count, count):
            drawing.look()
            for start in range(first + count, first + (_AHEAD + 1) * count, count):
                if (start, count) not in self._ahead:
                    self._ahead[start, count] = drawing.begin("training", start, count)
        self._last = (first, count)
        return drawing.finish(wanted).values

    def held_out(self, first: int, count: int) -> dict[str, Tensor]:
        """The same of the held-out stream, which no estimator may see."""
        if not count:
            return _nothing(self.spec)
        drawing, _ = self._drawing()
        found = drawing.finish(drawing.begin("held-out", first, count, urgent=True))
        if first == 0:
            self._held_out_seeds = {count: found.seeds}
        return found.values

    def batches(self, size: int, start: int = 0) -> Iterator[dict[str, Tensor]]:
        """Batches `start`, `start + 1`, ... of the training stream, without end."""
        while True:
            yield self.training(start * size, size)
            start += 1

    def close(self) -> None:
        """End the workers, and write down how many draws were tried."""
        if self._under_way is not None:
            self._under_way[1].close()
        self._under_way, self._ahead, self._last = None, {}, None
        self.left_out.flush()

    def check(self, batch: Values, monitor: Monitor) -> None:
        """Draw one of the first held-out draws again, alone: does it depend on its seed, and on it alone?

        Args:
            batch: the first draws of the held-out stream, each (B, *shape).
            monitor: hears of outputs without noise, or without any variation.

        Raises:
            SimulationError: the draw is another one.
        """
        name, outputs = method_of(self.simulator), self.simulator.outputs
        theta = batch[self.simulator.prior.name].numpy()
        seeds = self._held_out_seeds.get(len(theta))
        if seeds is None:
            seeds = draw_seeds(self.seed, "held-out/simulator", 0, len(theta))
        drawing, pool = self._drawing()
        drawing.forget()  # what was begun ahead: the workers are to answer this alone
        self._ahead.clear()

        def draw(rows: Sequence[int], seeds: NDArray[np.int64]) -> Values:
            return self._again(Given(theta[list(rows)], seeds), pool)

        if not check_seeding(outputs, batch, draw, seeds, name):
            monitor.say(
                f"{name}: another seed gives the same outputs, so it has no noise or ignores its seeds"
            )
        for variable in outputs:
            rows = batch[variable.name]
            if len(rows) > 1 and torch.equal(rows, rows[:1].expand_as(rows)):
                monitor.say(f"{name}: {variable.name} is the same in each of the first {len(rows)} draws")

    def _again(self, given: Given, pool: Pool) -> Values:
        """Outputs of chosen draws; zeros where they fail, as other seeds may."""
        n = len(given.seeds)
        pool.give(Task(None, given, None if self._timeout is None else n * self._timeout))
        found = pool.take()
        if isinstance(found, Done):
            outputs: Values = found.value.outputs
            return outputs
        return {v.name: torch.zeros(n, *v.shape) for v in self.simulator.drawn}

    def _drawing(self) -> tuple[Drawing, Pool]:
        if self._under_way is None:
            pool = self._workers() if self._workers else Here(simulating(self.simulator))
            drawing = Drawing(self.simulator, self.seed, pool, self._timeout, self.left_out)
            self._under_way = drawing, pool
        return self._under_way

    def __getstate__(self) -> dict[str, Any]:
        """Without workers, who stay with the process that started them."""
        return {**vars(self), "_workers": None, "_under_way": None, "_ahead": {}, "_last": None}


def _nothing(spec: Spec) -> dict[str, Tensor]:
    """No draws of every variable, each (0, *shape)."""
    return {v.name: torch.empty(0, *v.shape) for v in (*spec.latents, *spec.observables)}
