"""The exact posterior where fields can be integrated out: parameters by rejection, then the fields.

In what sense draws are exact: theta comes from its marginal posterior by rejection (`rejection`), each draw
from a point of its own, independent of all others given the proposal; the one approximation is a bound on the
weights taken from other points, and its effect is measured (`RejectionDiagnostics.excess`). The fields given
theta are exact to rounding. So any two sets of draws, the first and the second half for one, are independent.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import qmc
from torch import Tensor
from torch.special import ndtri

from sbikit import Draws, MarginalDensity, Monitor, Prior, Spec, Values, generator, one_thread
from sbikit_exact.given import refuse_unless_parameters
from sbikit_exact.options.wiener import WienerOptions
from sbikit_exact.sampler import JudgedSampler, rows_of
from sbikit_exact.wiener.diagnostics import RejectionDiagnostics
from sbikit_exact.wiener.fields import WienerFields
from sbikit_exact.wiener.mixture import Weighted
from sbikit_exact.wiener.rejection import Drawn, draw_by_rejection


class WienerSampler(JudgedSampler):
    """Draws from the exact joint posterior of parameters and fields.

    Draws are independent, so the first half of them is independent of the second.

    Args:
        spec: the problem.
        prior: of the parameters.
        density_of: the marginal density given observations (B, *shape).
        options: of the search for the posterior.
        monitor: hears of progress, and of draws that cannot be trusted.
    """

    name = "wiener"
    gravest = "mass above the bound"
    remedy = "More points or kernels would help."

    def __init__(
        self,
        spec: Spec,
        prior: Prior,
        density_of: Callable[[Values], MarginalDensity],
        options: WienerOptions,
        monitor: Monitor,
    ) -> None:
        super().__init__(spec, monitor, torch.device("cpu"))
        self._prior, self._density_of, self._options = prior, density_of, options

    def given(self, names: Collection[str]) -> WienerFields:
        """See `sbikit.SupportsGiven.given`: the fields given the parameters."""
        refuse_unless_parameters(self.spec, names, self._prior, self.name)
        return WienerFields(self.spec.given(*names), self._prior, self._density_of, self.monitor)

    def _parts(self, observation: Values, n: int, seeds: NDArray[np.int64]) -> Iterator[Draws]:
        with torch.no_grad(), one_thread():
            scouts = self._scouts(observation)
        with self.monitor.progress("Wiener", len(seeds)) as advance:
            for b, seed in enumerate(seeds.tolist()):
                with torch.no_grad(), one_thread():
                    draws = self._one(rows_of(observation, b), scouts[b], n, generator(seed))
                yield draws
                advance(1)

    def _scouts(self, observation: Values) -> list[Weighted]:
        """Points of the prior, the same for all observations, weighted for each by its likelihood."""
        count = self._options.prior_points
        sobol = qmc.Sobol(len(self._prior.laws), rng=np.random.default_rng(0))
        z = ndtri(torch.from_numpy(sobol.random_base2(math.ceil(math.log2(count)))[:count]))
        found = self._density_of(observation).log_likelihood(self._prior.from_white(z))
        return [Weighted(z, log_weight) for log_weight in found]

    def _one(self, one: Values, scouts: Weighted, n: int, source: torch.Generator) -> Draws:
        """Draws (n, 1, *shape) for one observation."""
        started = time.monotonic()
        density = self._density_of(one)

        def log_likelihood(z: Tensor) -> Tensor:
            return density.log_likelihood(self._prior.from_white(z))[0]

        options = self._options
        found = draw_by_rejection(
            log_likelihood, scouts, n, kernels=options.kernels, points=options.points, source=source
        )
        theta = self._prior.from_white(found.z)
        values = {self._prior.name: theta, **density.draw(theta, 0, source)}
        latents = {v.name: values[v.name].float().cpu().unsqueeze(1) for v in self.spec.latents}
        return Draws(latents, (self._judged(found, started).trust(),))

    def _judged(self, found: Drawn, started: float) -> RejectionDiagnostics:
        return RejectionDiagnostics(
            found.excess,
            found.ess,
            found.largest,
            found.evaluations + self._options.prior_points,
            time.monotonic() - started,
        )
