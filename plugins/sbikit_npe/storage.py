"""Weights on disk: safetensors, and JSON for the rest; every file is written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from sbikit import CheckpointError

_HEADER = "sbikit"


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> str:
    """Write tensors, with a JSON header in the same file so that they cannot disagree.

    Returns:
        The file's checksum.
    """
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    data = save(plain, metadata={_HEADER: json.dumps(dict(header))})
    write_whole(path, lambda partial: partial.write_bytes(data))
    return blake2b(data, digest_size=16).hexdigest()


def load_checkpoint(path: Path, identity: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header of `save_checkpoint`.

    Raises:
        CheckpointError: missing, damaged, or made by something other than `identity`.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})[_HEADER])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise damaged(path, error) from error
    if header.get("identity") != identity:
        raise CheckpointError(
            "The checkpoint was made with other options, another seed or another problem.",
            where=str(path),
            expected=identity,
            got=str(header.get("identity")),
            fix="go back to what it was made with, choose another folder, or delete the file to start anew",
        )
    return tensors, header


def checksum(path: Path) -> str:
    """Checksum of a file.

    Raises:
        CheckpointError: it cannot be read.
    """
    try:
        return blake2b(path.read_bytes(), digest_size=16).hexdigest()
    except OSError as error:
        raise damaged(path, error) from error


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file beside `path`, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    write(partial)
    os.replace(partial, path)


def restore(module: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Set a module's state.

    Raises:
        CheckpointError: names or shapes differ.
    """
    try:
        module.load_state_dict(dict(tensors))
    except RuntimeError as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> CheckpointError:
    """The error for a file that cannot be used."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return CheckpointError(
        "A checkpoint of the estimator 'npe' cannot be read.",
        where=str(path),
        expected="a file that this estimator wrote",
        got=lines[-1].strip(),
        fix="restore it from a copy, or delete it and fit again",
    )
