"""What a long computation is given: a monitor to speak to, and a workspace to keep unfinished work in."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch

from sbikit.roles.team import Alone, Team


class Monitor(Protocol):
    """Where a long computation reports."""

    def progress(
        self, title: str, total: int, start: int = 0
    ) -> AbstractContextManager[Callable[[int], None]]:
        """A progress bar with rate and time left: call the result with the number of new units done."""
        ...

    def log(self, **record: float | int | str) -> None:
        """Append one record to the training log."""
        ...

    def say(self, text: str) -> None:
        """Tell the user one line."""
        ...


class QuietMonitor:
    """A `Monitor` that reports nothing."""

    def progress(
        self, title: str, total: int, start: int = 0
    ) -> AbstractContextManager[Callable[[int], None]]:
        """No bar."""

        def ignore(done: int) -> None:
            del done

        return nullcontext(ignore)

    def log(self, **record: float | int | str) -> None:
        """Nothing is kept."""

    def say(self, text: str) -> None:
        """Nothing is said."""


@dataclass(frozen=True)
class Workspace:
    """Where a computation may keep unfinished work, and what it may use.

    Args:
        folder: for checkpoints of unfinished work, there already; None: nowhere.
        device: where networks run.
        team: the processes that work on it together, this one among them.
        at_once: most simulations whose gradient the device computes at once; None: all of a step's.
        precision: of the products inside networks while they are trained; float32, or less where a network
            is known to bear it.
    """

    folder: Path | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    team: Team = field(default_factory=Alone)
    at_once: int | None = None
    precision: torch.dtype = torch.float32
