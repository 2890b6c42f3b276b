"""Tensors on the disk: safetensors with a JSON header and a checksum in the same file.

Tensors and header cannot disagree, and a checksum of both finds a single changed bit.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sbikit.storage.files import replacing
from sbikit.storage.seals import tensor_digest
from sbikit.storage.tensor_file import TensorFile, TensorWriter, writing_tensors

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
    file = TensorFile.opened(path)
    header = _header(file.metadata)
    # Of their own: tensors that lie in the file change with it, after the checksum was found right.
    tensors = file.tensors()
    _check(file, tensor_digest(tensors, file.metadata[_HEADER]))
    return tensors, header


def open_tensors(path: Path) -> tuple[TensorFile, dict[str, Any]]:
    """A file whose tensors are read piece by piece, and its header; errors are those of `read_tensors`."""
    file = TensorFile.opened(path)
    header = _header(file.metadata)
    _check(file, file.digest(file.metadata[_HEADER]))
    return file, header


@contextmanager
def writing_blocks(
    path: Path, shapes: Mapping[str, tuple[int, ...]], header: Mapping[str, Any]
) -> Iterator[TensorWriter]:
    """What `write_tensors` writes, float32, in blocks along the second axis; all or nothing.

    Args:
        path: the file; folders above it are made.
        shapes: of each tensor, (n, B, *shape).
        header: what JSON can hold.

    Raises:
        OSError: it cannot be written.
    """
    text = json.dumps(dict(header), allow_nan=False)
    with writing_tensors(path, shapes, {_HEADER: text}, (_CHECKSUM, _HEADER)) as writer:
        yield writer


def read_header(path: Path) -> dict[str, Any]:
    """The header alone, without its checksum; errors are those of `read_tensors`."""
    try:
        with safe_open(path, framework="pt") as file:
            return _header(file.metadata())
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def _check(file: TensorFile, digest: str) -> None:
    if file.metadata.get(_CHECKSUM) != digest:
        raise ValueError("the checksum differs" if _CHECKSUM in file.metadata else "it has no checksum")


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
