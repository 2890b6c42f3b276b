"""Tensors on the disk: safetensors with a JSON header and a checksum in the same file.

Tensors and header cannot disagree, and a checksum of both finds a single changed bit.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sbikit.storage.files import replacing
from sbikit.storage.seals import tensor_digest

_HEADER, _CHECKSUM = "sbikit", "checksum"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write a file all or nothing; folders above it are made.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    text = json.dumps(dict(header), allow_nan=False)
    with replacing(path) as partial:
        try:
            save_file(plain, partial, metadata={_HEADER: text, _CHECKSUM: tensor_digest(plain, text)})
        except SafetensorError as error:
            raise OSError(errno.EIO, str(error), str(path)) from error


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is cut short, changed, or no file of `write_tensors`.
    """
    try:
        with safe_open(path, framework="pt") as file:
            # Of their own: tensors that lie in the file change with it, after the checksum was found right.
            tensors = {name: _own(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(str(error)) from error
    header = _header(metadata)
    if metadata.get(_CHECKSUM) != tensor_digest(tensors, metadata[_HEADER]):
        raise ValueError("the checksum differs" if _CHECKSUM in metadata else "it has no checksum")
    return tensors, header


def read_header(path: Path) -> dict[str, Any]:
    """The header alone, without its checksum; errors are those of `read_tensors`."""
    try:
        with safe_open(path, framework="pt") as file:
            return _header(file.metadata())
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def _own(tensor: Tensor) -> Tensor:
    """A copy to the bit: a plain one makes true of a byte that is neither 0 nor 1."""
    if tensor.dtype != torch.bool:
        return tensor.clone()
    return tensor.view(torch.uint8).clone().view(torch.bool)


def _header(metadata: Mapping[str, str] | None) -> dict[str, Any]:
    try:
        found = json.loads((metadata or {})[_HEADER])
    except KeyError:
        raise ValueError("it has no header of sbikit") from None
    except RecursionError:
        raise ValueError("its header is nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("its header is no object")
    return found
