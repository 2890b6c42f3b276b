"""The plug-in `nuts`."""

from __future__ import annotations

import torch

from sbikit import ExactSampler, Monitor, Simulator
from sbikit_exact.density import log_density_of
from sbikit_exact.nuts.engine import load_nutpie
from sbikit_exact.nuts.options import NUTSOptions
from sbikit_exact.nuts.sampler import NUTSSampler


class NUTS(ExactSampler[NUTSOptions]):
    """The No-U-Turn sampler in the coordinates of the simulator's log density; it computes on the CPU."""

    def posterior(
        self, simulator: Simulator, *, monitor: Monitor, device: torch.device | str = "cpu"
    ) -> NUTSSampler:
        """The simulator's posterior.

        Raises:
            UnsupportedError: the simulator has no log density.
            PluginError: nutpie is not installed.
        """
        del device
        density_of = log_density_of(simulator, "nuts")
        load_nutpie()
        return NUTSSampler(simulator.spec, density_of, self.options, monitor)
