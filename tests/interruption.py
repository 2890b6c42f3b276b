"""A monitor that cuts the work, as a power cut would, and keeps what it is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from sbikit import QuietMonitor


class Interrupted(Exception):
    """Stands for a power cut."""


class CuttingMonitor(QuietMonitor):
    """Cuts the training after so many steps, and keeps what it is told: rounds apart from looks."""

    def __init__(self, cut: int | None = None) -> None:
        self.cut = cut
        self.started = 0
        self.records: list[dict[str, float | int | str]] = []
        self.seen: list[dict[str, float | int | str]] = []
        self.lines: list[str] = []

    def progress(
        self, title: str, total: int, start: int = 0
    ) -> AbstractContextManager[Callable[[int], None]]:
        self.started = done = start

        def advance(count: int) -> None:
            nonlocal done
            done += count
            if title == "training" and done == self.cut:
                raise Interrupted

        @contextmanager
        def bar() -> Iterator[Callable[[int], None]]:
            yield advance

        return bar()

    def log(self, **record: float | int | str) -> None:
        (self.records if "loss" in record else self.seen).append(record)

    def say(self, text: str) -> None:
        self.lines.append(text)
