"""Log-normal weak lensing maps of a wCDM universe on a flat sky."""

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
