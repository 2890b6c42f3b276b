"""What a long computation is given: a monitor to speak to, and a workspace to keep unfinished work in."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch


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
    """

    folder: Path | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
