"""The five hooks through which a distribution offers plug-ins and weights, entry-point group `sbikit`::

    [project.entry-points.sbikit]
    my-plugin = "sbikit_my_plugin"

    from sbikit import Offer, hookimpl

    @hookimpl
    def sbikit_simulators():
        return [Offer("mine", "sbikit_my_plugin.simulator:Mine", "what it simulates")]

The module behind an entry point should import nothing heavy: the class is imported only when chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pluggy

hookspec = pluggy.HookspecMarker("sbikit")
hookimpl = pluggy.HookimplMarker("sbikit")


@dataclass(frozen=True)
class Offer:
    """One plug-in on offer.

    Args:
        name: what a user types.
        target: "module:Class".
        summary: one line for `sbikit plugins`.
        extra: the extra to install for it, "" for none, for example "npe" for `pip install 'sbikit[npe]'`.
        with_reference: of a validator, whether a run that has a reference brings it along.
        options: "module:Class" of the options, where that module loads nothing heavy: configurations are then
            read, shown and checked without the plug-in itself. "" takes them from the plug-in.
    """

    name: str
    target: str
    summary: str
    extra: str = ""
    with_reference: bool = False
    options: str = ""


@dataclass(frozen=True)
class Pretrained:
    """A fitted posterior on offer.

    Args:
        name: what a user types, `sbikit sample --pretrained NAME`.
        folder: what `sbikit.runs.ship` wrote.
        summary: one line for `sbikit plugins`.
    """

    name: str
    folder: Path
    summary: str


@hookspec
def sbikit_simulators() -> list[Offer]:
    """Simulators on offer."""
    return []


@hookspec
def sbikit_estimators() -> list[Offer]:
    """Estimators on offer."""
    return []


@hookspec
def sbikit_samplers() -> list[Offer]:
    """Exact samplers on offer, which need no training."""
    return []


@hookspec
def sbikit_validators() -> list[Offer]:
    """Validators on offer."""
    return []


@hookspec
def sbikit_pretrained() -> list[Pretrained]:
    """Fitted posteriors on offer, with their weights."""
    return []
