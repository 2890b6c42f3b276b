"""training.jsonl: what a fit logs, one record a line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sbikit.storage.files import read_json_lines, write_json_lines


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
            self._keep(lambda old: step is None or old.get("step", -1) < step)
        elif step is not None and step < self._last:
            self._keep(lambda old: old.get("step", -1) < step)
        self._last = step if step is not None else (self._last if self._last is not None else -1)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def _keep(self, wanted: Callable[[dict[str, Any]], bool]) -> None:
        records, _ = read_json_lines(self._path)
        write_json_lines(self._path, [record for record in records if wanted(record)])
