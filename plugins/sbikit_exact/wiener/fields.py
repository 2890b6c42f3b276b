"""Fields given parameters and data where all is normal: independent draws, by one formula."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from sbikit import (
    Draws,
    MarginalDensity,
    Monitor,
    Prior,
    Sampler,
    Spec,
    Values,
    check_observation,
    generator,
    one_thread,
)
from sbikit_exact.sampler import rows_of


class WienerFields(Sampler):
    """Draws of fields from their exact posterior given parameters, of which there is nothing to judge.

    Args:
        spec: the conditional problem, to which the parameters are observed.
        prior: of the parameters.
        density_of: the marginal density given observations (B, *shape).
        monitor: hears of progress.
    """

    def __init__(
        self,
        spec: Spec,
        prior: Prior,
        density_of: Callable[[Values], MarginalDensity],
        monitor: Monitor,
    ) -> None:
        self.spec, self._prior, self._density_of, self._monitor = spec, prior, density_of, monitor

    def sample(self, observation: Values, n: int, *, seeds: NDArray[np.int64]) -> Draws:
        """Draw `n` samples of the fields for each of B observations; see `sbikit.Sampler.sample`.

        Raises:
            ObservationError: the observation does not fit the problem, or there is not one seed for each.
        """
        check_observation(observation, self.spec, seeds)
        rows = []
        with self._monitor.progress("Wiener", len(seeds)) as advance:
            for b, seed in enumerate(seeds.tolist()):
                one = {name: torch.as_tensor(value) for name, value in rows_of(observation, b).items()}
                theta = one.pop(self._prior.name).double().expand(n, -1)
                with torch.no_grad(), one_thread():
                    rows.append(self._density_of(one).draw(theta, 0, generator(seed)))
                advance(1)
        none = {v.name: torch.empty(n, 0, *v.shape) for v in self.spec.latents}
        return Draws.unjudged(
            {
                name: torch.cat([empty, *(row[name].float().cpu().unsqueeze(1) for row in rows)], 1)
                for name, empty in none.items()
            }
        )
