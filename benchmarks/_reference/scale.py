"""How much is done: the full benchmark, and a trial of it."""

from __future__ import annotations

from dataclasses import dataclass

PARAMETERS = ("Omega_m", "S8", "w0")


@dataclass(frozen=True)
class Scale:
    """How much is done."""

    gaussian: int = 16
    nuts: int = 2
    draws: int = 4000
    sbc: int = 200
    both: int = 8
    speed: tuple[int, ...] = (32, 64, 128)
    published: tuple[int, int, int] = (8, 4000, 32_000)
    """Chains, draws and the most of them."""
    engine: tuple[int, int] = (300, 500)
    """Transitions of nuts: warm-up, and those that are kept where its speed is measured."""
    table: tuple[int, int] = (100, 500)
    """Observations, and draws of the estimators for each."""
    short: bool = False
    """Whether training and chains are shorter than they should be."""


QUICK = Scale(
    gaussian=4,
    nuts=1,
    draws=500,
    sbc=8,
    both=1,
    speed=(32,),
    published=(4, 200, 200),
    engine=(100, 200),
    table=(8, 200),
    short=True,
)
