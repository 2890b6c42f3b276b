"""Checksums: of files, of objects that JSON holds, and of tensors with their header.

A seal finds a changed byte. It is no signature: who changes a file on purpose can seal it anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Buffer

_BYTES = 16  # of a digest: two of 2^64 files would share one
_SEAL = "checksum"


def file_digest(path: Path) -> str:
    """Digest of a file, or of all files in a folder with their names; "" where there is neither.

    Raises:
        OSError: it cannot be read.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return object_digest([(str(file.relative_to(path)), file_digest(file)) for file in files])
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=_BYTES)).hexdigest()


def object_digest(content: Any) -> str:
    """Digest of what JSON can hold; the order of keys makes no difference."""
    text = json.dumps(content, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=_BYTES).hexdigest()


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The same with its checksum."""
    plain = json.loads(json.dumps({key: value for key, value in content.items() if key != _SEAL}))
    return {**plain, _SEAL: object_digest(plain)}


def unsealed(content: Mapping[str, Any], *, needed: bool = True) -> dict[str, Any]:
    """The same without its checksum.

    Args:
        content: what `sealed` gave.
        needed: whether one without checksum is refused.

    Raises:
        ValueError: the checksum differs or is missing.
    """
    plain = {key: value for key, value in content.items() if key != _SEAL}
    if _SEAL not in content:
        if needed:
            raise ValueError("it has no checksum")
    elif content[_SEAL] != object_digest(plain):
        raise ValueError("its checksum differs")
    return plain


class TensorDigest:
    """Digest of tensors, with their names, types and shapes, and of a text beside them; bytes come in pieces.

    Args:
        header: the text.
    """

    def __init__(self, header: str) -> None:
        self._digest = hashlib.blake2b(header.encode(), digest_size=_BYTES)

    def begin(self, name: str, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
        """The tensor whose bytes follow; tensors come in the order of their names."""
        self._digest.update(f"\n{name} {dtype} {tuple(shape)}\n".encode())

    def update(self, piece: Buffer) -> None:
        """Its next bytes."""
        self._digest.update(piece)

    def text(self) -> str:
        """The digest."""
        return self._digest.hexdigest()


def tensor_digest(tensors: Mapping[str, Tensor], header: str) -> str:
    """Digest of tensors on the CPU, with their names, types and shapes, and of a text beside them."""
    digest = TensorDigest(header)
    for name in sorted(tensors):
        value = tensors[name].contiguous()
        digest.begin(name, value.dtype, tuple(value.shape))
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.text()
