"""Exact posteriors: by the gradients of a log density, or where the fields can be integrated out."""

from __future__ import annotations

from sbikit import Offer, hookimpl


@hookimpl
def sbikit_samplers() -> list[Offer]:
    """The samplers on offer."""
    return [
        Offer(
            "hmc",
            "sbikit_exact.hmc:HMC",
            "Hamiltonian Monte Carlo, all chains and observations in one batch",
            options="sbikit_exact.options.hmc:HMCOptions",
        ),
        Offer(
            "nuts",
            "sbikit_exact.nuts:NUTS",
            "the No-U-Turn sampler of nutpie, one observation after the other",
            extra="nuts",
            options="sbikit_exact.options.nuts:NUTSOptions",
        ),
        Offer(
            "wiener",
            "sbikit_exact.wiener:Wiener",
            "independent draws where the fields can be integrated out, such as Gaussian maps",
            options="sbikit_exact.options.wiener:WienerOptions",
        ),
    ]
