"""Exact posteriors for every simulator that has a log density, by its gradients."""

from __future__ import annotations

from sbikit import Offer, hookimpl


@hookimpl
def sbikit_samplers() -> list[Offer]:
    """The samplers on offer."""
    return [
        Offer(
            "hmc",
            "sbikit_exact.hmc_sampler:HMC",
            "Hamiltonian Monte Carlo, all chains and observations in one batch",
        ),
        Offer(
            "nuts",
            "sbikit_exact.nuts_sampler:NUTS",
            "the No-U-Turn sampler of nutpie, one observation after the other",
            extra="nuts",
        ),
    ]
