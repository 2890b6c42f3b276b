"""What a run folder may hold, before anything is read from it or written to it.

A folder may come from somebody else. A link in it can lead out of it, a pipe waits for ever, and a folder in
the place of a file makes every command fail in its own way: all are refused here, once, by name.
"""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from sbikit.problem.errors import RunFolderError
from sbikit.storage.files import PARTIAL

FILES = (
    "run.yaml",
    "provenance.json",
    "stages.json",
    "heldout.safetensors",
    "reference.safetensors",
    "compared.safetensors",
    "posterior.nc",
    "metrics.json",
    "training.jsonl",
    "simulations.json",
    "failed-draws.json",
    "left-out.jsonl",
    "left-out.json",
    "first-draws.safetensors",
    "first-draws.json",
    "report.html",
    "run.log",
    ".lock",
)
"""Files that sbikit keeps in a run folder itself."""

FOLDERS = ("checkpoints", "parts", "figures")
"""Folders of the same."""

_STORE = "simulations.zarr"  # has a lock of its own: another run may be adding to it


def inspect(path: Path) -> None:
    """Refuse a run folder that holds a link, a pipe or a device, or a folder where a file belongs.

    Raises:
        RunFolderError: it does, or it cannot be read.
    """
    _refuse_swapped(path)
    for folder, folders, files in os.walk(path, onerror=_unreadable):
        for name in (*folders, *files):
            _refuse_strange(Path(folder, name))


def _refuse_strange(entry: Path) -> None:
    """Refuse what is neither a file nor a folder."""
    try:
        kind = entry.lstat().st_mode
    except FileNotFoundError:  # unfinished work of another process, which has ended by now
        return
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        raise RunFolderError(
            f"A run folder holds files and folders alone, and this is a {_kind(kind)}.",
            where=str(entry),
            expected="a file or a folder of its own",
            got=f"a link to {os.readlink(entry)}" if stat.S_ISLNK(kind) else _kind(kind),
            fix="look where the folder comes from; delete the entry, or choose another --out",
        )


def _unreadable(error: OSError) -> None:
    raise RunFolderError(
        f"The run folder cannot be read: {error.strerror}.",
        where=str(error.filename),
        fix="check who may read it, or choose another --out",
    )


def _refuse_swapped(path: Path) -> None:
    """Refuse a folder in the place of a file, and the other way round."""
    wrong = [(path / name, "a file", "a folder") for name in FILES if (path / name).is_dir()]
    wrong += [(path / name, "a folder", "a file") for name in (*FOLDERS, _STORE) if (path / name).is_file()]
    for place, expected, got in wrong:
        raise RunFolderError(
            f"{place.name} of this run folder is {got}.",
            where=str(place),
            expected=expected,
            got=got,
            fix="delete or rename it, or choose another --out",
        )


def _kind(mode: int) -> str:
    return "link" if stat.S_ISLNK(mode) else "pipe" if stat.S_ISFIFO(mode) else "device or socket"


def remove_leftovers(path: Path) -> None:
    """Remove what a crash left of files that sbikit was writing; none is at work, the folder is locked."""
    stems = {Path(name).stem for name in FILES}
    for file in path.glob(f"*{PARTIAL}*"):
        if file.name.partition(".")[0] not in stems:
            continue
        if file.is_dir() and not file.is_symlink():  # a store that was being made
            shutil.rmtree(file, ignore_errors=True)
        else:
            file.unlink(missing_ok=True)
    for folder in FOLDERS:
        for file in (path / folder).rglob(f"*{PARTIAL}*"):
            if file.is_file():
                file.unlink(missing_ok=True)
