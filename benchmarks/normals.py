"""Nanoseconds a standard normal number takes by several generators: `python benchmarks/normals.py`.

Random numbers are the largest part of a simulation that is not a Fourier transform. Each row makes the
numbers of one draw of 128 x 128 pixels and one bin, float32, on one thread.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import torch
from _record import record
from torch import Tensor

from sbikit import mean_and_error

COUNT = 3 * 128**2
REPEATS = 200


def bits(source: np.random.SFC64) -> Tensor:
    """Uniform numbers in (-1, 1), of 32 random bits each."""
    raw = torch.from_numpy(source.random_raw(COUNT // 2).view(np.int32))
    return (raw.float() + 0.5) * 2.0**-31


def box_muller(source: np.random.SFC64) -> Tensor:
    """Normal numbers of pairs of uniform ones."""
    first, second = (bits(source) * 0.5 + 0.5).chunk(2)
    radius = torch.sqrt(-2.0 * torch.log(first))
    angle = 2.0 * math.pi * second
    return torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)])


def generators() -> dict[str, Callable[[], object]]:
    """Name -> what makes the numbers of one draw."""
    ours, out = torch.Generator(), torch.empty(COUNT)
    found: dict[str, Callable[[], object]] = {
        "torch, as sbikit.normals": lambda: out.normal_(generator=ours.manual_seed(5))
    }
    array = np.empty(COUNT, dtype=np.float32)
    for kind in (np.random.SFC64, np.random.PCG64DXSM, np.random.Philox):
        random = np.random.Generator(kind(5))
        found[f"numpy {kind.__name__}"] = lambda r=random: r.standard_normal(dtype=np.float32, out=array)
    source = np.random.SFC64(5)
    found["numpy SFC64 through torch.erfinv"] = lambda: torch.erfinv(bits(source)) * math.sqrt(2.0)
    found["numpy SFC64 through Box and Muller in torch"] = lambda: box_muller(source)
    return found


def measure(name: str, make: Callable[[], object]) -> None:
    """Print the processor time a number takes."""
    make()
    seconds = []
    for _ in range(REPEATS):
        start = time.process_time()
        make()
        seconds.append((time.process_time() - start) / COUNT)
    mean, error = mean_and_error(1e9 * np.array(seconds))
    record(f"nanoseconds a normal number, {name}", mean, error)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for label, maker in generators().items():
        measure(label, maker)
