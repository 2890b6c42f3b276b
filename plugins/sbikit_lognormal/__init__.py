"""Log-normal weak lensing maps of a wCDM universe on a flat sky, and the exact posterior of Gaussian ones."""

from __future__ import annotations

from sbikit import Offer, hookimpl


@hookimpl
def sbikit_simulators() -> list[Offer]:
    """The log-normal weak lensing simulator."""
    return [
        Offer(
            "lognormal",
            "sbikit_lognormal.simulator:LogNormal",
            "wCDM weak lensing: log-normal convergence on a flat sky, seen as noisy shear",
        )
    ]


@hookimpl
def sbikit_samplers() -> list[Offer]:
    """The exact posterior of its Gaussian mode."""
    return [
        Offer(
            "wiener",
            "sbikit_lognormal.wiener:Wiener",
            "exact posterior of lognormal's Gaussian maps, mode by mode in Fourier space",
        )
    ]
