"""training.jsonl: what a fit logs, one record a line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sbikit.storage.files import append_text, json_line, read_json_lines, write_json_lines


class TrainingLog:
    """training.jsonl: one record a line, steps never going backwards.

    A fit that goes on from a checkpoint repeats the steps since; their first records are dropped, as is
    a line that a crash cut short.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last: float | None = None

    def append(self, record: dict[str, Any]) -> None:
        """Add a record; one with a `step` drops earlier records of later steps."""
        step = record.get("step")
        if self._last is None:
            self._keep(lambda old: step is None or _step(old) < step)
        elif step is not None and step < self._last:
            self._keep(lambda old: _step(old) < step)
        self._last = step if step is not None else (self._last if self._last is not None else -1)
        append_text(self._path, json_line(record))

    def _keep(self, wanted: Callable[[dict[str, Any]], bool]) -> None:
        records, _ = read_json_lines(self._path)
        write_json_lines(self._path, [record for record in records if wanted(record)])


def _step(record: dict[str, Any]) -> float:
    """The step of a record that may be anybody's; -1 where it has none."""
    step = record.get("step")
    return step if isinstance(step, int | float) else -1
