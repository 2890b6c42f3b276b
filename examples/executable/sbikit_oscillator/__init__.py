"""Offers the simulator `oscillator` to sbikit."""

from __future__ import annotations

from sbikit import Offer, hookimpl


@hookimpl
def sbikit_simulators() -> list[Offer]:
    return [
        Offer(
            "oscillator",
            "sbikit_oscillator.simulator:Oscillator",
            "a damped oscillator seen with noise, by a program that works through files",
        )
    ]
