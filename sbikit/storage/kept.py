"""Simulations on the disk, with what they were made by and a digest of their bytes in the same file."""

from __future__ import annotations

import hashlib
from pathlib import Path

from torch import Tensor

from sbikit.problem.variables import Values
from sbikit.storage.tensors import read_tensors, write_tensors


def write_kept(path: Path, values: Values, identity: str) -> None:
    """Write simulations, each (M, *shape), all or nothing; `identity` says what made them."""
    write_tensors(path, values, {"identity": identity, "digest": _digest(values)})


def read_kept(path: Path, identity: str) -> dict[str, Tensor] | None:
    """Read them; None where the file is missing, damaged, or was made by something else."""
    try:
        values, header = read_tensors(path)
    except (OSError, ValueError):
        return None
    whole = header.get("identity") == identity and header.get("digest") == _digest(values)
    return values if whole else None


def _digest(values: Values) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(values):
        value = values[name].contiguous()
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()
