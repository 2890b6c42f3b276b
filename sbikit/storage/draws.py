"""Draws of a sampler on the disk, and what it says of them: one file, one place."""

from __future__ import annotations

from pathlib import Path

from sbikit.problem.errors import RunFolderError
from sbikit.roles.sampler import Draws
from sbikit.roles.trust import Trust
from sbikit.storage.tensors import read_header, read_tensors, write_tensors


def write_draws(path: Path, draws: Draws, key: str = "") -> None:
    """Write draws, all or nothing.

    Args:
        path: the file.
        draws: the draws.
        key: what they were made from; see `draws_key`.
    """
    write_tensors(path, draws.values, {"key": key, "trust": [one.record() for one in draws.trust]})


def read_draws(path: Path) -> Draws:
    """Read what `write_draws` wrote.

    Raises:
        RunFolderError: the file is missing or damaged.
    """
    try:
        tensors, header = read_tensors(path)
        return Draws(tensors, tuple(Trust.from_record(one) for one in header["trust"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, error) from error


def read_trust(path: Path) -> tuple[Trust, ...]:
    """What the sampler said of the draws in a file, without reading them.

    Raises:
        RunFolderError: the file is missing or damaged.
    """
    try:
        return tuple(Trust.from_record(one) for one in read_header(path)["trust"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, error) from error


def draws_key(path: Path) -> str | None:
    """What the draws in a file were made from; None where the file is missing or damaged."""
    try:
        return str(read_header(path)["key"])
    except (OSError, ValueError, KeyError):
        return None


def _damaged(path: Path, error: Exception) -> RunFolderError:
    return RunFolderError(
        "Draws cannot be read.",
        where=str(path),
        expected="a safetensors file with the sampler's trust in its header",
        got=f"{type(error).__name__}: {error}",
        fix=f"delete the file and go on: sbikit sample {path.parent}",
    )
