"""Files that are written whole or not at all, and read with a refusal that says what is wrong.

A file is written under another name beside its own, flushed to the disk and renamed, so that an interruption
leaves the former file or none, never a half.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PARTIAL = ".partial"
"""What the names of unfinished files contain."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes `path` if the block ends without an error, and is removed else."""
    partial = path.with_name(f"{path.stem}{PARTIAL}{path.suffix}")
    try:
        yield partial
        with partial.open("rb") as stream:
            os.fsync(stream.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file all or nothing."""
    with replacing(path) as partial:
        partial.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a text file all or nothing."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, content: Mapping[str, Any], indent: int = 2) -> None:
    """Write an object as JSON, all or nothing.

    Raises:
        ValueError: a number is not finite.
    """
    write_text(path, json.dumps(content, indent=indent, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds something else.
    """
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ValueError(f"it holds a {type(found).__name__}, not an object")
    return found


def write_json_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object a line, all or nothing."""
    write_text(path, "".join(json.dumps(record) + "\n" for record in records))


def read_json_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The objects of a file with one a line, none where there is no file, and how many lines hold none.

    A crash while a line is appended leaves half of it.

    Raises:
        OSError: the file cannot be read.
    """
    records: list[dict[str, Any]] = []
    unread = 0
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    for line in filter(str.strip, text.splitlines()):
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            record = None
        if isinstance(record, dict):
            records.append(record)
        else:
            unread += 1
    return records, unread
