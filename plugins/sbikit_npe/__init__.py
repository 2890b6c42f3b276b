"""Neural posterior estimation with a normalising flow of sbi."""

from __future__ import annotations

from sbikit import Offer, hookimpl


@hookimpl
def sbikit_estimators() -> list[Offer]:
    """The estimator on offer."""
    return [
        Offer(
            "npe",
            "sbikit_npe.estimator:NPE",
            "neural posterior estimation: a normalising flow of sbi on the parameters alone",
            extra="npe",
            options="sbikit_npe.options:NPEOptions",
        )
    ]
