"""Files that are written whole or not at all, and read with a refusal that says what is wrong.

A file is written under another name beside its own, flushed to the disk and renamed, so that an interruption
leaves the former file or none, never a half. Nothing is written through a link: a folder may come from
somebody else, and a link in it lead out of it.
"""

from __future__ import annotations

import json
import os
import stat
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

PARTIAL = ".partial"
"""What the names of unfinished files contain."""

_CHECK = "crc32"
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL  # fails where there is anything, a link included
# O_NONBLOCK: a pipe that nobody reads must not hold up who wants to append to a file.
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes `path` if the block ends without an error, and is removed else.

    It is this process's own, so that two that write the same file leave the one or the other whole.

    Raises:
        OSError: it cannot be written.
    """
    partial = path.with_name(f"{path.stem}.{os.getpid()}{PARTIAL}{path.suffix}")
    with suppress(FileNotFoundError):
        partial.unlink()
    os.close(os.open(partial, _NEW, 0o666))
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


def create_text(path: Path, text: str) -> None:
    """Write a text file that is not there yet, all or nothing.

    Raises:
        FileExistsError: there is one, perhaps made by another process in this moment.
        OSError: it cannot be written.
    """
    partial = path.with_name(f"{path.stem}.{os.getpid()}{PARTIAL}{path.suffix}")
    write_text(partial, text)
    try:
        os.link(partial, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        with os.fdopen(os.open(path, _NEW, 0o666), "w", encoding="utf-8") as file:
            file.write(text)
    finally:
        partial.unlink(missing_ok=True)


def append_text(path: Path, text: str) -> None:
    """Append to a text file, which is made where it is missing.

    Raises:
        OSError: it is no plain file (a link, a folder, a pipe), or cannot be written.
    """
    descriptor = os.open(path, _APPEND, 0o666)
    with os.fdopen(descriptor, "a", encoding="utf-8", errors="backslashreplace") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "it is no plain file", str(path))
        file.write(text)


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
        ValueError: it holds something else, a key twice, or a number that is not finite.
    """
    try:
        found = json.loads(
            path.read_text(encoding="utf-8"), object_pairs_hook=_once, parse_constant=_refuse_constant
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError(f"it holds a {type(found).__name__}, not an object")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("it holds a key twice")
    return found


def _refuse_constant(text: str) -> float:
    raise ValueError(f"it holds {text}, which is no finite number")


def json_line(record: Mapping[str, Any]) -> str:
    """One JSON object and a check of it, as a line."""
    plain = json.dumps(record)
    return json.dumps({**record, _CHECK: _check(plain)}) + "\n"


def write_json_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object a line, all or nothing."""
    write_text(path, "".join(json_line(record) for record in records))


def read_json_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The objects of a file with one a line, none where there is no file, and how many lines hold none.

    A crash while a line is appended leaves half of it; a line whose check fails is not read, either.

    Raises:
        OSError: the file cannot be read.
    """
    records: list[dict[str, Any]] = []
    unread = 0
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    for line in filter(str.strip, text.splitlines()):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if isinstance(record, dict) and record.pop(_CHECK, "") in ("", _check(json.dumps(record))):
            records.append(record)
        else:
            unread += 1
    return records, unread


def _check(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"
