"""Looks at a network while it is trained, for the log alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from torch import nn

Record: TypeAlias = Mapping[str, float | int | str]
"""What is logged, but for the step."""

Look: TypeAlias = Callable[[nn.Module, int], Iterable[Record]]
"""A network in evaluation mode and the steps that it has had -> records."""


@dataclass(frozen=True)
class Looks:
    """When a network is looked at, with the weights that it would end with if training ended there.

    Nothing of training may depend on a look: what it draws has generators of its own. On several devices the
    first process alone looks, so a look calls no method of the team.

    Args:
        count: over the whole training, evenly, after rounds.
        on_the_way: each of them but the last.
        at_the_end: the last one.
    """

    count: int
    on_the_way: Look
    at_the_end: Look

    def due(self, before: int, step: int, steps: int) -> bool:
        """Whether one is due after the steps `before` to `step - 1` of `steps`."""
        return self.count * step // steps > self.count * before // steps
