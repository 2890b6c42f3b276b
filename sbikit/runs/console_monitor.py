"""Where a run reports: bars on a terminal, plain lines elsewhere, run.log and training.jsonl."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from sbikit.storage.files import append_text
from sbikit.storage.training_log import TrainingLog

_EVERY = 10.0  # seconds between plain lines, at first: a reader of a log sees that it is alive
_GROWTH = 0.05  # and never less than this share of the time gone by: at most 20 lines a factor e


class ConsoleMonitor:
    """A `Monitor` for people.

    Args:
        console: what to write to.
        log_file: every line said, with the time; None: nowhere.
        training_file: records of the fit, one JSON object a line; None: nowhere.
    """

    def __init__(
        self,
        console: Console,
        log_file: Path | None = None,
        training_file: Path | None = None,
    ) -> None:
        self._console = console
        self._log_file = log_file
        self._training = TrainingLog(training_file) if training_file else None
        self._bars: Progress | None = None

    def say(self, text: str) -> None:
        """One line for the user and for run.log."""
        self._show(text)
        self.note(text)

    def _show(self, text: str) -> None:
        with suppress(OSError):  # a terminal that went away, or a full disk behind it, ends no run
            self._console.print(Text(text), soft_wrap=True)

    def note(self, text: str) -> None:
        """One line for run.log alone."""
        if self._log_file is None:
            return
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        try:
            append_text(self._log_file, f"{now} {text}\n")
        except OSError as error:
            self._show(f"{self._log_file} cannot be written and is given up: {error.strerror or error}")
            self._log_file = None

    def log(self, **record: float | int | str) -> None:
        """One record of the training log."""
        if self._training is not None:
            self._training.append(record)

    @contextmanager
    def progress(self, title: str, total: int, start: int = 0) -> Iterator[Callable[[int], None]]:
        """Progress of `total` units of which `start` are done."""
        show = self._bar if self._console.is_terminal else self._lines
        with show(title, total, start) as advance:
            yield advance

    @contextmanager
    def _bar(self, title: str, total: int, start: int) -> Iterator[Callable[[int], None]]:
        if self._bars is not None:
            with _task(self._bars, title, total, start) as advance:
                yield advance
            return
        with _progress(self._console) as bars:
            self._bars = bars
            try:
                with _task(bars, title, total, start) as advance:
                    yield advance
            finally:
                self._bars = None

    @contextmanager
    def _lines(self, title: str, total: int, start: int) -> Iterator[Callable[[int], None]]:
        counter = _Counter(title, total, start, self.say)
        yield counter.advance
        counter.finish()


class _Counter:
    """Progress in plain lines, the rarer the longer it takes."""

    def __init__(self, title: str, total: int, start: int, say: Callable[[str], None]) -> None:
        self._title, self._total, self._first, self._say = title, total, start, say
        self._done = start
        self._began = self._spoke = time.monotonic()
        self._silent = True

    def advance(self, count: int) -> None:
        self._done += count
        now = time.monotonic()
        if now - self._spoke >= max(_EVERY, _GROWTH * (now - self._began)) and self._done < self._total:
            self._spoke, self._silent = now, False
            rate = (self._done - self._first) / (now - self._began)
            left = clock((self._total - self._done) / rate) if rate > 0 else "?"
            share = 100 * self._done // self._total
            self._say(f"{self._title}: {self._done} of {self._total} ({share} %), {pace(rate)}, {left} left")

    def finish(self) -> None:
        if not self._silent:
            self._say(f"{self._title}: done in {clock(time.monotonic() - self._began)}")


class _RateColumn(ProgressColumn):
    """Units a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else pace(speed), style="progress.data.speed")


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )


@contextmanager
def _task(bars: Progress, title: str, total: int, start: int) -> Iterator[Callable[[int], None]]:
    task = bars.add_task(title, total=total, completed=start)
    yield lambda count: bars.advance(task, count)


def pace(rate: float) -> str:
    """A rate as "12.3/s" or "1,234/s"."""
    return f"{rate:,.0f}/s" if rate >= 100 else f"{rate:.3g}/s"


def clock(seconds: float) -> str:
    """A duration as hours:minutes:seconds."""
    return str(timedelta(seconds=round(seconds)))
