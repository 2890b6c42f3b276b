"""Where an estimator's simulations come from, whether they are drawn as needed or kept."""

from __future__ import annotations

from typing import Protocol

from sbikit.problem.spec import Spec
from sbikit.problem.variables import Values
from sbikit.roles.simulator import Simulator

BEYOND_TRAINING = 2**48
"""Draws of an endless training stream from this number on: no training gets so far, so a fit judges itself by
them. They are not among those that validators take their scales from.
"""


class JointDraws(Protocol):
    """Joint draws of all variables of a simulator, in two streams that share no seed.

    Attributes:
        simulator: what they are draws of.
        spec: its problem.
        seed: what the draws come from, beside their number.
        size: how many training draws there are; None where they are drawn as they are asked for, without end.
    """

    simulator: Simulator
    spec: Spec
    seed: int
    size: int | None

    def training(self, first: int, count: int) -> Values:
        """Draws `first` to `first + count - 1` of the training stream, each (count, *shape).

        Raises:
            PluginError: there are not so many.
        """
        ...

    def held_out(self, first: int, count: int) -> Values:
        """The same of the held-out stream, which no estimator may see."""
        ...
