"""A monitor for tests."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from sbikit import QuietMonitor


class Recorder(QuietMonitor):
    """Remembers what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.total = self.done = 0
        self.lines: list[str] = []

    def progress(
        self, title: str, total: int, start: int = 0
    ) -> AbstractContextManager[Callable[[int], None]]:
        self.total = total
        return nullcontext(self._advance)

    def _advance(self, done: int) -> None:
        self.done += done

    def say(self, text: str) -> None:
        self.lines.append(text)
