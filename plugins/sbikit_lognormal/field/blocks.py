"""Draws in blocks of one fixed size, so that a draw is the same alone, in any batch and on any cores.

Matrix products and Fourier transforms of a few rows are rounded otherwise than those of many, and those of
several threads otherwise than those of one. So the work is always given the same number of draws, the last
block being filled with copies of the last draw, few enough of them that the arrays stay in the processor's
cache; and one thread does it, since the arrays are too small for more.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbikit import one_thread

# Pixels of a block, 1 MiB an array. With 1 MiB of second-level cache a draw of 128 x 128 pixels takes 13 %
# longer with 2^16 and twice as long with 2^20.
_PIXELS = 2**18
_MOST_ROWS = 32  # a training batch; more would make a smaller batch pay for copies
_LARGE = 31 * 2**20  # bytes; above 32 MiB glibc does not learn from it


def block_rows(size: int, bins: int) -> int:
    """Draws in a block, for so many maps of size x size pixels a draw: a power of two, from 2 to 32."""
    return min(_MOST_ROWS, max(2, 2 ** round(math.log2(_PIXELS / (size**2 * bins)))))


def in_blocks(
    work: Callable[[NDArray[np.int64]], tuple[Tensor, ...]], count: int, rows: int
) -> tuple[Tensor, ...]:
    """What `work` makes of draws 0 to count - 1, row by row.

    Args:
        work: from the indices (rows,) of some draws to tensors (rows, ...), row i made from draw i alone.
        count: draws, at least one.
        rows: draws in a block.
    """
    _keep_freed_memory()
    with one_thread():
        return _in_blocks(work, count, rows)


def _in_blocks(
    work: Callable[[NDArray[np.int64]], tuple[Tensor, ...]], count: int, rows: int
) -> tuple[Tensor, ...]:
    outputs: tuple[Tensor, ...] = ()
    for first in range(0, count, rows):
        made = work(np.minimum(np.arange(first, first + rows), count - 1))
        outputs = outputs or tuple(part.new_empty(count, *part.shape[1:]) for part in made)
        for output, part in zip(outputs, made, strict=True):
            output[first : first + rows] = part[: count - first]
    return outputs


def _keep_freed_memory() -> None:
    """Have the C library reuse the memory of one block for the next.

    glibc gives memory back to the system at once until an array larger than it has been freed (mallopt(3),
    M_MMAP_THRESHOLD and M_TRIM_THRESHOLD), and getting it anew made Fourier transforms four times slower.
    The array is never written to, so that it costs nothing.
    """
    torch.empty(_LARGE, dtype=torch.uint8)
