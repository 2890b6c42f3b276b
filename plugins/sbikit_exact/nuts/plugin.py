"""The plug-in `nuts`."""

from __future__ import annotations

from typing import ClassVar

import torch

from sbikit import ExactSampler, Monitor, Simulator
from sbikit_exact.density import log_density_of
from sbikit_exact.memory import refuse_endless
from sbikit_exact.nuts.engine import load_nutpie
from sbikit_exact.nuts.sampler import NUTSSampler
from sbikit_exact.options.nuts import NUTSOptions


class NUTS(ExactSampler[NUTSOptions]):
    """The No-U-Turn sampler in the coordinates of the simulator's log density; it computes on the CPU."""

    for_checks: ClassVar = {"chains": 2, "warmup": 50, "draws": 50, "max_depth": 4}

    def posterior(
        self, simulator: Simulator, *, monitor: Monitor, device: torch.device | str = "cpu"
    ) -> NUTSSampler:
        """The simulator's posterior.

        Raises:
            UnsupportedError: the simulator has no log density.
            OptionError: the chains do not fit into memory.
            PluginError: nutpie is not installed.
        """
        del device
        density_of = log_density_of(simulator, "nuts")
        load_nutpie()
        o = self.options
        refuse_endless(simulator.spec, chains=o.chains, draws=o.draws, name="nuts")
        return NUTSSampler(simulator.spec, simulator.prior, density_of, self.options, monitor)
