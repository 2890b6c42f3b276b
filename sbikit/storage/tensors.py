"""Tensors on the disk: safetensors with a JSON header in the same file, so that the two cannot disagree."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sbikit.storage.files import replacing

_HEADER = "sbikit"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write a file all or nothing; folders above it are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with replacing(path) as partial:
        save_file(plain, partial, metadata={_HEADER: json.dumps(dict(header), allow_nan=False)})


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is cut short, or no file of `write_tensors`.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, _header(file.metadata())  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def read_header(path: Path) -> dict[str, Any]:
    """The header alone; errors are those of `read_tensors`."""
    try:
        with safe_open(path, framework="pt") as file:
            return _header(file.metadata())
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def _header(metadata: Mapping[str, str] | None) -> dict[str, Any]:
    try:
        found = json.loads((metadata or {})[_HEADER])
    except KeyError:
        raise ValueError("it has no header of sbikit") from None
    if not isinstance(found, dict):
        raise ValueError("its header is no object")
    return found
