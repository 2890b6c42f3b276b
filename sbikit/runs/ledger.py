"""Which stages of a run are done, and what each was made with: stages.json.

    {stage: {"configuration": ..., "after": {stage: key}, "outputs": {file: digest}, "logs": ..., "key": ...,
             "checksum": ...}, ...}

A record with a configuration alone is of a stage that has begun. A stage counts as done when its record
agrees with the files on disk and with the stages before it; a damaged or missing file makes its stage, and
what follows from it, be done again. Its configuration is what it depends on of run.yaml: another is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sbikit.problem.errors import RunFolderError
from sbikit.storage.differing import differences
from sbikit.storage.files import read_json, write_json
from sbikit.storage.seals import file_digest, object_digest, sealed, unsealed

_WORDS = ("when it was made", "now")


class Ledger:
    """The records of the stages of one run folder.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "stages.json"

    def key(self, stage: str) -> str:
        """What a stage made, as a digest of its outputs; "" if it is not done."""
        return str(self._record(stage).get("key", ""))

    def done(self, stage: str, after: Iterable[str]) -> bool:
        """Whether a stage is recorded, its files are whole, and the stages before it are the same still."""
        return bool(self.key(stage)) and not self.fault(stage, after)

    def fault(self, stage: str, after: Iterable[str]) -> str:
        """Why a stage that was done is done no longer; "" if nothing is wrong, or it never was."""
        record = self._record(stage)
        if not record.get("key"):
            return ""
        outputs = record.get("outputs")
        if not isinstance(outputs, dict):
            raise _damaged(self._file, f"the record of {stage!r} names no outputs")
        for name, digest in outputs.items():
            found = file_digest(self._folder / name)
            if found != digest:
                return f"{name} is {'damaged or was changed' if found else 'missing'}"
        if record.get("after") != {name: self.key(name) for name in after}:
            return "what it was made from is another"
        return ""

    def differs(self, stage: str, configuration: Mapping[str, Any]) -> list[str]:
        """How what a stage was made or begun with differs from `configuration`; [] if it never began."""
        before = self._record(stage).get("configuration")
        return [] if before is None else differences(before, configuration, words=_WORDS)

    def changed_logs(self, stage: str) -> list[str]:
        """Logs of a finished stage that are there, but not as it left them."""
        logs: dict[str, str] = self._record(stage).get("logs", {})
        return [name for name, digest in logs.items() if file_digest(self._folder / name) not in ("", digest)]

    def begin(self, stage: str, configuration: Mapping[str, Any]) -> None:
        """Record what a stage is made with, before it is made."""
        self._write({**self._records(), stage: {"configuration": dict(configuration)}})

    def finish(
        self,
        stage: str,
        after: Iterable[str],
        outputs: Iterable[Path],
        logs: Iterable[Path] = (),
    ) -> None:
        """Record a stage, which was made with what it began with.

        Args:
            stage: its name.
            after: the stages whose outputs it read.
            outputs: files and folders that it made.
            logs: files about it that no other stage reads, there or not.
        """
        files = [file for path in outputs for file in _files(path)]
        digests = self._digests(files)
        record = {
            "configuration": self._record(stage).get("configuration"),
            "after": {name: self.key(name) for name in after},
            "outputs": digests,
            "logs": self._digests(logs),
            "key": object_digest(digests),
        }
        self._write({**self._records(), stage: record})

    def forget(self, stage: str) -> None:
        """Take a stage for one that never began."""
        self._write({name: record for name, record in self._records().items() if name != stage})

    def _records(self) -> dict[str, Any]:
        records = read_record(self._file)
        return {stage: self._opened(stage, record) for stage, record in records.items()}

    def _record(self, stage: str) -> dict[str, Any]:
        record: dict[str, Any] = self._records().get(stage, {})
        return record

    def _opened(self, stage: str, record: Any) -> dict[str, Any]:
        """A record whose checksum, of its name too, is right."""
        if not isinstance(record, dict):
            raise _damaged(self._file, f"the record of {stage!r} is no object")
        try:
            plain = unsealed({**record, "stage": stage})
        except ValueError as error:
            raise _damaged(self._file, f"the record of {stage!r} is not as it was written, {error}") from None
        return {key: value for key, value in plain.items() if key != "stage"}

    def _write(self, records: Mapping[str, Mapping[str, Any]]) -> None:
        kept = {}
        for stage, record in records.items():
            whole = sealed({**record, "stage": stage})
            kept[stage] = {key: value for key, value in whole.items() if key != "stage"}
        write_json(self._file, kept)

    def _digests(self, files: Iterable[Path]) -> dict[str, str]:
        return {str(file.relative_to(self._folder)): file_digest(file) for file in files}


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


def read_sealed_record(path: Path) -> dict[str, Any]:
    """The same of a file that carries its checksum."""
    found = read_record(path)
    try:
        return unsealed(found) if path.exists() else {}
    except ValueError as error:
        raise _damaged(path, str(error)) from None


def _damaged(path: Path, reason: str) -> RunFolderError:
    return RunFolderError(
        f"A file of the run folder is damaged, or of an earlier version: {reason}.",
        where=str(path),
        fix="delete that file: what it held is made again from the rest",
    )


def _files(path: Path) -> list[Path]:
    return sorted(f for f in path.rglob("*") if f.is_file()) if path.is_dir() else [path]
