"""Which stages of a run are done: stages.json.

A stage counts as done when its record agrees with the files on disk and with the stages before it; a damaged
or missing file makes its stage, and what follows from it, be done again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sbikit.problem.errors import RunFolderError
from sbikit.storage.files import read_json, write_json

_BYTES = 16  # of a digest: two of 2^64 files would share one


class Ledger:
    """The records of the stages of one run folder.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "stages.json"

    def key(self, stage: str) -> str:
        """What a stage made, as a digest of its outputs; "" if it is not recorded."""
        return str(self._record(stage).get("key", ""))

    def done(self, stage: str, after: Iterable[str]) -> bool:
        """Whether a stage is recorded, its files are whole, and the stages before it are the same still."""
        record = self._record(stage)
        if record.get("after") != {name: self.key(name) for name in after}:
            return False
        outputs = record.get("outputs")
        return isinstance(outputs, dict) and outputs == self._digests(Path(name) for name in outputs)

    def finish(self, stage: str, after: Iterable[str], outputs: Iterable[Path]) -> None:
        """Record a stage.

        Args:
            stage: its name.
            after: the stages whose outputs it read.
            outputs: files and folders that it made.
        """
        files = [file for path in outputs for file in _files(path)]
        digests = self._digests(file.relative_to(self._folder) for file in files)
        key = hashlib.blake2b(json.dumps(digests, sort_keys=True).encode(), digest_size=_BYTES).hexdigest()
        record = {"key": key, "after": {name: self.key(name) for name in after}, "outputs": digests}
        write_json(self._file, {**self._records(), stage: record})

    def _records(self) -> dict[str, Any]:
        return read_record(self._file)

    def _record(self, stage: str) -> dict[str, Any]:
        record = self._records().get(stage, {})
        if not isinstance(record, dict):
            raise _damaged(self._file, f"the record of {stage!r} is no object")
        return record

    def _digests(self, names: Iterable[Path]) -> dict[str, str]:
        return {str(name): _digest(self._folder / name) for name in names}


def read_record(path: Path) -> dict[str, Any]:
    """The object in a JSON file of a run folder, {} where there is none.

    Raises:
        RunFolderError: the file is damaged.
    """
    if not path.exists():
        return {}
    try:
        return read_json(path)
    except (ValueError, OSError) as error:
        raise _damaged(path, str(error)) from None


def _damaged(path: Path, reason: str) -> RunFolderError:
    return RunFolderError(
        f"A file of the run folder is damaged: {reason}.",
        where=str(path),
        fix="delete that file: what it held is made again from the rest",
    )


def _files(path: Path) -> list[Path]:
    return sorted(f for f in path.rglob("*") if f.is_file()) if path.is_dir() else [path]


def _digest(path: Path) -> str:
    """Digest of a file, "" where there is none."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=_BYTES)).hexdigest()
