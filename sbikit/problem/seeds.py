"""Randomness from integers: draw i of a stream depends on (seed, stream, i) and on nothing else.

Seeds are made by splitmix64 (Steele, Lea and Flood 2014, doi:10.1145/2660193.2660195), a
bijection of 64-bit integers, so no two draws of one stream share a seed.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_POSITIVE = np.uint64(0x7FFFFFFFFFFFFFFF)


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64, elementwise."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def derive_seed(seed: int, *words: str | int) -> int:
    """A seed in [0, 2^63) for the purpose that `words` name."""
    text = "/".join(str(word) for word in (seed, *words))
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") & int(_POSITIVE)


def draw_seeds(seed: int, stream: str, first: int, count: int) -> NDArray[np.int64]:
    """Seeds of draws `first` to `first + count - 1` of a stream, shape (count,), in [0, 2^63)."""
    index = np.arange(first, first + count, dtype=np.uint64)
    state = np.uint64(derive_seed(seed, stream)) + (index + np.uint64(1)) * _GOLDEN
    return (_mix(state) & _POSITIVE).astype(np.int64)


def uniforms(seeds: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """Uniform numbers in (0, 1), shape (len(seeds), count), row i made from seed i alone."""
    column = np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN
    bits = _mix(_mix(np.asarray(seeds).astype(np.uint64))[:, None] + column[None, :])
    return ((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator of its own for this seed."""
    return torch.Generator(device=device).manual_seed(int(seed))


def normals(
    seeds: NDArray[np.int64], shape: tuple[int, ...], device: torch.device | str = "cpu"
) -> torch.Tensor:
    """Standard normal numbers, float32, shape (len(seeds), *shape), row i made from seed i alone.

    They are always drawn on the CPU, so a run on another device sees the same numbers.
    """
    out = torch.empty(len(seeds), *shape)
    source = torch.Generator()
    for row, seed in zip(out, seeds, strict=True):
        row.normal_(generator=source.manual_seed(int(seed)))
    return out.to(device)
