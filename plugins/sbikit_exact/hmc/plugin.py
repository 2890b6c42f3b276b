"""The plug-in `hmc`."""

from __future__ import annotations

from typing import ClassVar

import torch

from sbikit import ExactSampler, Monitor, Simulator
from sbikit_exact.density import log_density_of
from sbikit_exact.hmc.sampler import HMCSampler
from sbikit_exact.memory import refuse_endless
from sbikit_exact.options.hmc import HMCOptions


class HMC(ExactSampler[HMCOptions]):
    """Hamiltonian Monte Carlo in the coordinates of the simulator's log density."""

    # Chains are judged and go on once, as long ones do. No parameter is trusted after so few.
    for_checks: ClassVar = {"chains": 2, "warmup": 50, "draws": 50, "max_draws": 100}

    def posterior(
        self, simulator: Simulator, *, monitor: Monitor, device: torch.device | str = "cpu"
    ) -> HMCSampler:
        """The simulator's posterior.

        Raises:
            UnsupportedError: the simulator has no log density.
            OptionError: the chains do not fit into memory.
        """
        density_of = log_density_of(simulator, "hmc")
        o = self.options
        refuse_endless(simulator.spec, chains=o.chains, draws=o.draws, name="hmc")
        return HMCSampler(
            simulator.spec,
            simulator.prior,
            density_of,
            options=o,
            monitor=monitor,
            device=torch.device(device),
        )
