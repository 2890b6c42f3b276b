"""The plug-in `wiener`."""

from __future__ import annotations

from collections.abc import Callable

import torch

from sbikit import (
    ExactSampler,
    MarginalDensity,
    Monitor,
    Simulator,
    SupportsMarginalDensity,
    UnsupportedError,
    Values,
    copied,
    supports,
)
from sbikit_exact.options.wiener import WienerOptions
from sbikit_exact.wiener.sampler import WienerSampler


class Wiener(ExactSampler[WienerOptions]):
    """Independent draws by rejection, where the fields can be integrated out; it computes on the CPU."""

    def posterior(
        self, simulator: Simulator, *, monitor: Monitor, device: torch.device | str = "cpu"
    ) -> WienerSampler:
        """The simulator's posterior.

        Raises:
            UnsupportedError: the simulator's fields cannot be integrated out.
        """
        del device
        return WienerSampler(
            simulator.spec, simulator.prior, _marginal_density_of(simulator), self.options, monitor
        )


def _marginal_density_of(simulator: Simulator) -> Callable[[Values], MarginalDensity]:
    """The simulator's method `marginal_density`, if it works with the simulator's options; it gets copies."""
    nothing = {v.name: torch.empty(0, *v.shape) for v in simulator.spec.observables}
    if not supports(simulator, SupportsMarginalDensity):
        name = type(simulator).__name__
        raise UnsupportedError(
            f"{name} does not know its posterior with the fields integrated out.",
            where="sampler 'wiener'",
            expected="a simulator with the method marginal_density(observation) -> MarginalDensity",
            got=name,
            fix="use --reference hmc if it has a log density, or add the method marginal_density",
        )
    marginal_density = simulator.marginal_density
    marginal_density(nothing)

    def density_of(observation: Values) -> MarginalDensity:
        return marginal_density(copied(observation))

    return density_of
