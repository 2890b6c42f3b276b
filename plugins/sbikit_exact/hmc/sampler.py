"""HMC as a sampler: the exact posterior of a log density, for many observations at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

import numpy as np
import torch
from numpy.typing import NDArray

from sbikit import Draws, LogDensity, Monitor, Prior, Spec, Values
from sbikit_exact.chains import chain_sizes
from sbikit_exact.density import errors_of_the_density
from sbikit_exact.given import at_parameters, refuse_unless_parameters
from sbikit_exact.hmc.batch import Batch, Task
from sbikit_exact.hmc.threads import at_once, one_at_a_time
from sbikit_exact.options.hmc import HMCOptions
from sbikit_exact.sampler import JudgedSampler, rows_of

# Chains in a batch. At 32 x 32 pixels a gradient of lognormal took 336, 140, 99, 74 and 58 us of a core a
# chain in batches of 4, 16, 32, 64 and 128; at 128 x 128 pixels 737 in batches of 4 and 456 of 16. Larger
# ones wait longer for the slowest, and leave the processor's cache: 2^18 float32 numbers are 1 MiB.
_LEAST_ROWS, _MOST_ROWS, _NUMBERS = 16, 128, 2**18
_LEAST_BATCHES = 2  # of several observations, so that two threads have work
_GPU_ROWS = 1024  # 64 MiB an array at 128 x 128 pixels; fewer would leave a GPU waiting to be called


class HMCSampler(JudgedSampler):
    """Draws from the exact posterior by Hamiltonian Monte Carlo in the coordinates of the log density.

    Chains and observations advance together in batches, as many batches at a time as torch has threads.
    Chains start at draws from N(0, 1) in the coordinates, never at the truth. Observations whose chains
    cannot be trusted yet go on, each time twice as far, up to the option `max_draws`.

    Draws of one observation are chain-major: the first `chain_sizes(n, chains)[0]` are chain 0 in order, and
    so on; the first n // 2 and the others come from different chains.

    The log density is called from several threads at once, for different observations.

    Args:
        spec: the problem.
        prior: of the parameters.
        density_of: the log density given observations (B, *shape).
        options: how to run the chains.
        monitor: hears of progress, and of draws that cannot be trusted.
        device: where the density computes.
        batch: observations a batch; as many as is fast where left out.
    """

    name = "hmc"
    gravest = "R-hat"
    remedy = "More max_draws or warmup would help."

    def __init__(
        self,
        spec: Spec,
        prior: Prior,
        density_of: Callable[[Values], LogDensity],
        *,
        options: HMCOptions,
        monitor: Monitor,
        device: torch.device,
        batch: int | None = None,
    ) -> None:
        super().__init__(spec, monitor, device)
        self._prior, self._density_of = prior, density_of
        self._options, self._batch = options, batch

    def batch_size(self, observation: Values) -> int:
        """See `sbikit.SupportsBatches.batch_size`.

        Raises:
            SimulationError: the simulator's density raised.
        """
        return self._observations_at_once(observation, len(next(iter(observation.values()))))

    def in_batches(self, size: int) -> HMCSampler:
        """See `sbikit.SupportsBatches.in_batches`."""
        return self._with(self.spec, self._density_of, size)

    def given(self, names: Collection[str]) -> HMCSampler:
        """See `sbikit.SupportsGiven.given`: the fields given the parameters."""
        refuse_unless_parameters(self.spec, names, self._prior, self.name)
        return self._with(self.spec.given(*names), at_parameters(self._density_of, self._prior), self._batch)

    def _with(self, spec: Spec, density_of: Callable[[Values], LogDensity], batch: int | None) -> HMCSampler:
        return HMCSampler(
            spec,
            self._prior,
            density_of,
            options=self._options,
            monitor=self.monitor,
            device=self.device,
            batch=batch,
        )

    def _parts(self, observation: Values, n: int, seeds: NDArray[np.int64]) -> list[Draws]:
        count, options = len(seeds), self._options
        each = self._observations_at_once(observation, count) if count else 1
        least = max(options.draws, *chain_sizes(n, options.chains))
        with self.monitor.progress("HMC", count * options.chains * (options.warmup + least)) as advance:
            told = one_at_a_time(advance)
            task = Task(self.spec, self._density_of, options, self.device, n=n, least=least, advance=told)
            batches = [
                Batch(task, rows_of(observation, first, each), seeds[first : first + each].tolist())
                for first in range(0, count, each)
            ]
            workers = 1 if self.device.type == "cuda" else torch.get_num_threads()
            with errors_of_the_density():
                return at_once([batch.draw for batch in batches], workers)

    def _observations_at_once(self, observation: Values, count: int) -> int:
        """How many observations make a batch."""
        if self._batch is not None:
            return self._batch
        with errors_of_the_density():
            size = self._density_of(rows_of(observation, 0)).size
        if self.device.type == "cuda":
            return max(1, _GPU_ROWS // self._options.chains)
        rows = min(_MOST_ROWS, max(_LEAST_ROWS, _NUMBERS // size))
        return max(1, min(rows // self._options.chains, math.ceil(count / _LEAST_BATCHES)))
