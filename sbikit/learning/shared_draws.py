"""Joint draws that several processes need all of: each draws a share, and all get the whole."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from sbikit.problem.variables import Values
from sbikit.roles.joint_draws import JointDraws
from sbikit.roles.team import Team, shares

Draw = Callable[[int, int], Values]


class SharedDraws:
    """A `JointDraws` whose calls every process of a team makes, with the same arguments.

    Args:
        simulations: where draws come from.
        team: the processes.
    """

    def __init__(self, simulations: JointDraws, team: Team) -> None:
        self.simulator, self.spec, self.seed = simulations.simulator, simulations.spec, simulations.seed
        self.size = simulations.size
        self._simulations, self._team = simulations, team

    def training(self, first: int, count: int) -> dict[str, Tensor]:
        """Draws `first` to `first + count - 1` of the training stream, each (count, *shape)."""
        return self._together(self._simulations.training, first, count)

    def held_out(self, first: int, count: int) -> dict[str, Tensor]:
        """The same of the held-out stream."""
        return self._together(self._simulations.held_out, first, count)

    def _together(self, draw: Draw, first: int, count: int) -> dict[str, Tensor]:
        start, own = shares(count, self._team.size)[self._team.rank]
        # Shapes come from a draw: a process without a share makes one and keeps none of it.
        drawn = draw(first + start, own) if own else draw(first, 1)
        return {name: self._team.join(value[:own]) for name, value in drawn.items()}
