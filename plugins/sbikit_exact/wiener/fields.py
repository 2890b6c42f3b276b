"""Fields given parameters and data where all is normal: independent draws, by one formula."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from sbikit import Draws, MarginalDensity, Monitor, Prior, Spec, Values, generator, one_thread
from sbikit_exact.sampler import JudgedSampler, rows_of


class WienerFields(JudgedSampler):
    """Draws of fields from their exact posterior given parameters.

    Args:
        spec: the conditional problem, to which the parameters are observed.
        prior: of the parameters.
        density_of: the marginal density given observations (B, *shape).
        monitor: hears of progress.
    """

    name = "wiener"
    gravest = remedy = ""

    def __init__(
        self,
        spec: Spec,
        prior: Prior,
        density_of: Callable[[Values], MarginalDensity],
        monitor: Monitor,
    ) -> None:
        super().__init__(spec, monitor, torch.device("cpu"))
        self._prior, self._density_of = prior, density_of

    def _parts(self, observation: Values, n: int, seeds: NDArray[np.int64]) -> Iterator[Draws]:
        with self.monitor.progress("Wiener", len(seeds)) as advance:
            for b, seed in enumerate(seeds.tolist()):
                one = dict(rows_of(observation, b))
                theta = one.pop(self._prior.name).double().expand(n, -1)
                with torch.no_grad(), one_thread():
                    found = self._density_of(one).draw(theta, 0, generator(seed))
                fields = {v.name: found[v.name].float().cpu().unsqueeze(1) for v in self.spec.latents}
                yield Draws.unjudged(fields)
                advance(1)
