"""NUTS as a sampler: the exact posterior of a log density, one observation after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from sbikit import Draws, LogDensity, Monitor, Prior, Spec, Values, one_thread
from sbikit_exact.chains import chain_sizes, decode, judged, thin
from sbikit_exact.diagnostics import diagnose
from sbikit_exact.given import at_parameters, refuse_unless_parameters
from sbikit_exact.nuts.engine import run_nuts
from sbikit_exact.options.nuts import NUTSOptions
from sbikit_exact.sampler import JudgedSampler, rows_of


class NUTSSampler(JudgedSampler):
    """Draws from the exact posterior by NUTS in the coordinates of the simulator's log density.

    Draws of one observation are chain-major: the first `chain_sizes(n, chains)[0]` are chain 0 in
    order, and so on; the first n // 2 and the others come from different chains. Each observation's
    chains start at draws from the prior.

    Args:
        spec: the problem.
        prior: of the parameters.
        density_of: the log density given observations (B, *shape).
        options: how to run the chains.
        monitor: hears of progress, and of draws that cannot be trusted.
    """

    name = "nuts"
    gravest = "R-hat"
    remedy = "More draws or warmup would help."

    def __init__(
        self,
        spec: Spec,
        prior: Prior,
        density_of: Callable[[Values], LogDensity],
        options: NUTSOptions,
        monitor: Monitor,
    ) -> None:
        super().__init__(spec, monitor, torch.device("cpu"))
        self._prior, self._density_of, self._options = prior, density_of, options

    def given(self, names: Collection[str]) -> NUTSSampler:
        """See `sbikit.SupportsGiven.given`: the fields given the parameters."""
        refuse_unless_parameters(self.spec, names, self._prior, self.name)
        density_of = at_parameters(self._density_of, self._prior)
        return NUTSSampler(self.spec.given(*names), self._prior, density_of, self._options, self.monitor)

    def _parts(self, observation: Values, n: int, seeds: NDArray[np.int64]) -> Iterator[Draws]:
        chains = self._options.chains
        draws = max(self._options.draws, *chain_sizes(n, chains))
        options = self._options.model_copy(update={"draws": draws})
        work = len(seeds) * chains * (options.warmup + draws)
        with self.monitor.progress("NUTS", work) as advance:
            for b, seed in enumerate(seeds.tolist()):
                with one_thread():  # at these sizes more only wait for each other
                    draws_of_one = self._one(rows_of(observation, b), n, options, seed, advance)
                yield draws_of_one

    def _one(
        self, one: Values, n: int, options: NUTSOptions, seed: int, advance: Callable[[int], None]
    ) -> Draws:
        """Draws (n, 1, *shape) for one observation."""
        started = time.monotonic()
        density = self._density_of(one)
        chains = run_nuts(
            lambda z: density.log_prob(z.unsqueeze(1)).squeeze(1),
            density.size,
            options,
            seed=seed,
            advance=advance,
        )
        z = torch.from_numpy(chains.draws).unsqueeze(2)
        labels, scalars = judged(density, z, self.spec)
        found = diagnose(
            labels,
            scalars[0],
            chains.energies,
            chains.divergent,
            gradients=chains.gradients,
            seconds=time.monotonic() - started,
        )
        return Draws(decode(density, thin(z, n), self.spec), (found.trust(),))
