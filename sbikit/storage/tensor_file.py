"""A safetensors file read and written piece by piece, for tensors that are too large for memory.

The format: eight bytes with the length of a JSON header, the header, which names type, shape and place of
every tensor, and the values. The library maps a file into memory as a whole; here are plain reads and writes
of what is wanted.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sbikit.storage.files import replacing
from sbikit.storage.seals import TensorDigest

_PIECE = 2**24  # bytes read at once to compute a checksum
_ALIGNED = 8  # bytes, of which the header takes a multiple
_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(frozen=True)
class Place:
    """Where a tensor lies in a file: type, shape, and number of its first byte."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    first: int

    @property
    def bytes(self) -> int:
        """How many it takes."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class TensorFile:
    """What a file says of its tensors.

    Args:
        path: the file.
        places: where each tensor lies.
        metadata: texts by name.
    """

    path: Path
    places: Mapping[str, Place]
    metadata: Mapping[str, str]

    @staticmethod
    def opened(path: Path) -> TensorFile:
        """The file, whose header the library has found to fit its size.

        Raises:
            OSError: it cannot be read.
            ValueError: it is no safetensors file, or cut short.
        """
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
        except (SafetensorError, RuntimeError) as error:
            raise ValueError(str(error)) from error
        with path.open("rb") as stream:
            length = int.from_bytes(_read(stream, 8), "little")
            header = json.loads(_read(stream, length))
        places = {
            name: Place(_type(one["dtype"]), tuple(one["shape"]), 8 + length + one["data_offsets"][0])
            for name, one in header.items()
            if name != "__metadata__"
        }
        return TensorFile(path, places, metadata)

    def tensors(self) -> dict[str, Tensor]:
        """All tensors, in memory of their own."""
        with self.path.open("rb") as stream:
            return {name: _tensor(stream, place) for name, place in self.places.items()}

    def columns(self, names: Iterable[str], first: int, last: int) -> dict[str, Tensor]:
        """Entries `first` to `last - 1` along the second axis, each (n, last - first, *shape)."""
        with self.path.open("rb") as stream:
            return {name: _columns(stream, self.places[name], first, last) for name in names}

    def digest(self, header: str) -> str:
        """The digest of all tensors and of a text, as of `tensor_digest`, read piece by piece."""
        digest = TensorDigest(header)
        with self.path.open("rb") as stream:
            for name in sorted(self.places):
                place = self.places[name]
                digest.begin(name, place.dtype, place.shape)
                stream.seek(place.first)
                for start in range(0, place.bytes, _PIECE):
                    digest.update(_read(stream, min(_PIECE, place.bytes - start)))
        return digest.text()


class TensorWriter:
    """Takes in a file's tensors, float32, a block along their second axis after the other.

    Args:
        stream: the file.
        places: where each goes.
    """

    def __init__(self, stream: BinaryIO, places: Mapping[str, Place]) -> None:
        self._stream, self._places = stream, places

    def put(self, first: int, values: Mapping[str, Tensor]) -> None:
        """Write entries from `first` on along the second axis, each (n, b, *shape), of every tensor."""
        for name, place in self._places.items():
            block = values[name].detach().to("cpu", torch.float32).contiguous()
            width = math.prod(place.shape[2:]) * place.dtype.itemsize
            for j, row in enumerate(block):
                self._stream.seek(place.first + (j * place.shape[1] + first) * width)
                self._stream.write(row.reshape(-1).view(torch.uint8).numpy())


@contextmanager
def writing_tensors(
    path: Path, shapes: Mapping[str, tuple[int, ...]], metadata: Mapping[str, str], sealed: tuple[str, str]
) -> Iterator[TensorWriter]:
    """Write a file of float32 tensors a block after the other, all or nothing.

    Args:
        path: the file; folders above it are made.
        shapes: of each tensor, (n, B, *shape).
        metadata: texts by name.
        sealed: name of the text that holds the checksum, and of the one that it is of, beside the tensors.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    checksum, text = sealed
    places, head = _layout(shapes, {**metadata, checksum: TensorDigest("").text()})
    with replacing(path) as partial:
        with partial.open("r+b") as stream:
            stream.write(head)
            stream.truncate(len(head) + sum(place.bytes for place in places.values()))
            yield TensorWriter(stream, places)
        digest = TensorFile(partial, places, {}).digest(metadata[text])
        with partial.open("r+b") as stream:
            stream.write(_layout(shapes, {**metadata, checksum: digest})[1])
            stream.flush()
            os.fsync(stream.fileno())


def _layout(
    shapes: Mapping[str, tuple[int, ...]], metadata: Mapping[str, str]
) -> tuple[dict[str, Place], bytes]:
    """Places of float32 tensors, and the bytes before them."""
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    offset = 0
    for name in sorted(shapes):
        size = 4 * math.prod(shapes[name])
        header[name] = {
            "dtype": "F32",
            "shape": list(shapes[name]),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNED)
    begin = 8 + len(text)
    places = {}
    for name in sorted(shapes):
        places[name] = Place(torch.float32, tuple(shapes[name]), begin)
        begin += places[name].bytes
    return places, len(text).to_bytes(8, "little") + text


def _type(name: str) -> torch.dtype:
    if name not in _TYPES:
        raise ValueError(f"it holds tensors of the type {name}")
    return _TYPES[name]


def _tensor(stream: BinaryIO, place: Place) -> Tensor:
    stream.seek(place.first)
    found = torch.empty(place.shape, dtype=place.dtype)
    _fill(stream, found)
    return found


def _columns(stream: BinaryIO, place: Place, first: int, last: int) -> Tensor:
    n, B, *shape = place.shape
    found = torch.empty((n, last - first, *shape), dtype=place.dtype)
    width = math.prod(shape) * place.dtype.itemsize
    for j in range(n):
        stream.seek(place.first + (j * B + first) * width)
        _fill(stream, found[j])
    return found


def _fill(stream: BinaryIO, tensor: Tensor) -> None:
    """Read a contiguous tensor's bytes from where the stream stands."""
    if not tensor.numel():
        return
    view = tensor.reshape(-1).view(torch.uint8).numpy().data
    while view:
        count = stream.readinto(view)  # type: ignore[attr-defined]
        if not count:
            raise ValueError("it is cut short")
        view = view[count:]


def _read(stream: BinaryIO, count: int) -> bytes:
    found = stream.read(count)
    if len(found) != count:
        raise ValueError("it is cut short")
    return found
