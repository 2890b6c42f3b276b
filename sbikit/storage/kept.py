"""Simulations on the disk, with what they were made by in the same file."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from sbikit.problem.variables import Values
from sbikit.storage.tensors import read_tensors, write_tensors


def write_kept(path: Path, values: Values, identity: str) -> None:
    """Write simulations, each (M, *shape), all or nothing; `identity` says what made them."""
    write_tensors(path, values, {"identity": identity})


def read_kept(path: Path, identity: str) -> dict[str, Tensor] | None:
    """Read them; None where the file is missing, damaged, or was made by something else."""
    try:
        values, header = read_tensors(path)
    except (OSError, ValueError):
        return None
    return values if header.get("identity") == identity else None
