"""One batched gradient for all chains: each chain's thread waits until every running chain has asked.

At the size of a map a gradient's cost is overhead, so four chains in one batch cost little more than
one. The batch always holds all running chains in one order, which makes rounding, and with it every
draw, independent of how the operating system schedules the threads.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]


class Lockstep:
    """The meeting point of the threads of `chains` chains.

    Args:
        log_prob: (chains, size) float64 -> (chains,), differentiable.
        chains: number of threads that will ask.

    Attributes:
        error: what made it stop; None while it works.
        gradients: how many points it was evaluated at.
    """

    def __init__(self, log_prob: Callable[[Tensor], Tensor], chains: int) -> None:
        self.error: Exception | None = None
        self.gradients = 0
        self._log_prob = log_prob
        self._running = chains
        self._meeting = threading.Condition()
        self._asked: dict[int, Array] = {}
        self._answers: dict[int, tuple[float, Array]] = {}
        self._order: list[int] = []

    def __call__(self, z: Array) -> tuple[float, Array]:
        """Value and gradient at z (size,), once every running chain has asked; N(0, 1)'s after `stop`."""
        me = threading.get_ident()
        with self._meeting:
            self._asked[me] = np.array(z)
            self._answer_if_all_asked()
            self._meeting.wait_for(lambda: me in self._answers or self.error is not None)
            if me in self._answers:
                return self._answers.pop(me)
            # nutpie panics at an exception, and at NaN while it starts; N(0, 1) it samples until cancelled.
            return -0.5 * float(np.square(z).sum()), -z

    def is_finite(self, z: Array) -> bool:
        """Whether value and gradient are finite at z (size,); meets nobody."""
        with self._meeting:
            try:
                values, gradients = self._evaluate(z[None])
            except Exception as error:
                self.stop(error)
                return False
            return math.isfinite(values[0]) and bool(np.isfinite(gradients).all())

    def leave(self) -> None:
        """The calling chain is done and will not ask again."""
        with self._meeting:
            self._running -= 1
            if self.error is None:
                self._order.remove(threading.get_ident())
            self._answer_if_all_asked()

    def stop(self, error: Exception) -> None:
        """Turn every chain away, now and later; the first error is kept in `error`."""
        with self._meeting:
            self.error = self.error or error
            self._meeting.notify_all()

    def _answer_if_all_asked(self) -> None:
        if self.error is not None or not self._asked or len(self._asked) < self._running:
            return
        if not self._order:
            # Threads start in any order; their first points, drawn from seeds, do not.
            self._order = sorted(self._asked, key=lambda thread: self._asked[thread].tolist())
        try:
            values, gradients = self._evaluate(np.stack([self._asked[thread] for thread in self._order]))
        except Exception as error:
            self.stop(error)
            return
        self._answers = dict(zip(self._order, zip(values, gradients, strict=True), strict=True))
        self._asked.clear()
        self._meeting.notify_all()

    def _evaluate(self, z: Array) -> tuple[list[float], Array]:
        self.gradients += len(z)
        points = torch.from_numpy(z).requires_grad_()
        values = self._log_prob(points)
        (gradients,) = torch.autograd.grad(values.sum(), points)
        return values.tolist(), gradients.numpy()
