"""Simulations of somebody who has no simulator any more, or none in Python: a table of joint draws."""

from __future__ import annotations

from sbikit import Offer, hookimpl


@hookimpl
def sbikit_simulators() -> list[Offer]:
    """The table on offer."""
    return [
        Offer(
            "table",
            "sbikit_table.simulator:Table",
            "joint draws that were made elsewhere, from a file of named arrays; no simulator",
            options="sbikit_table.options:TableOptions",
        )
    ]
