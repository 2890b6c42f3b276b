"""A monitor that cuts the work, as a power cut would, and keeps what it is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from sbikit import QuietMonitor


class Interrupted(Exception):
    """Stands for a power cut."""


class CuttingMonitor(QuietMonitor):
    """Cuts the training, or what has another title, after so many steps, and keeps what it is told: rounds
    apart from looks, and where each title started.
    """

    def __init__(self, cut: int | None = None, title: str = "training") -> None:
        self.cut, self.title = cut, title
        self.starts: dict[str, int] = {}
        self.started = 0
        self.records: list[dict[str, float | int | str]] = []
        self.seen: list[dict[str, float | int | str]] = []
        self.lines: list[str] = []

    def progress(
        self, title: str, total: int, start: int = 0
    ) -> AbstractContextManager[Callable[[int], None]]:
        self.started = done = start
        self.starts[title] = start

        def advance(count: int) -> None:
            nonlocal done
            done += count
            if title == self.title and done == self.cut:
                raise Interrupted

        @contextmanager
        def bar() -> Iterator[Callable[[int], None]]:
            yield advance

        return bar()

    def log(self, **record: float | int | str) -> None:
        (self.records if "loss" in record else self.seen).append(record)

    def say(self, text: str) -> None:
        self.lines.append(text)
