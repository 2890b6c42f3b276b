"""Why draws failed: small JSON files beside the status of the draws, one a chunk that has some."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sbikit.storage.files import read_json, write_json
from sbikit.storage.seals import sealed, unsealed

# Below an array zarr lists nothing; in a group it warns of every file that is none of its own.
_FOLDER = "status/failures"
_MOST_LETTERS = 1000  # of a reason


class Reasons:
    """The reasons of one store.

    Args:
        path: the store.
        rows: draws in a chunk.
    """

    def __init__(self, path: Path, rows: int) -> None:
        self._folder, self._rows = path / _FOLDER, rows

    def add(self, reasons: Mapping[int, str]) -> None:
        """Keep them, each file all or nothing: number of a draw -> reason."""
        for chunk in sorted({row // self._rows for row in reasons}):
            new = {row: text for row, text in reasons.items() if row // self._rows == chunk}
            self._folder.mkdir(exist_ok=True)
            merged = sorted({**self._read(chunk), **new}.items())
            write_json(self._file(chunk), sealed({str(row): text[:_MOST_LETTERS] for row, text in merged}))

    def of(self, row: int) -> str:
        """Why a draw failed, "" where that is lost."""
        return self._read(row // self._rows).get(row, "")

    def _read(self, chunk: int) -> dict[int, str]:
        try:
            found = unsealed(read_json(self._file(chunk)))
            return {int(row): str(text) for row, text in found.items()}
        except (OSError, ValueError):  # the status says what kind of failure it was
            return {}

    def _file(self, chunk: int) -> Path:
        return self._folder / f"{chunk:08d}.json"
