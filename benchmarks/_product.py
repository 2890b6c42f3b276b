"""A fixed matrix product, which tells how fast a machine is at the moment: times are told as ratios to it."""

from __future__ import annotations

import statistics
import time

import torch

SIZE, REPEATS = 1024, 20


def product_seconds() -> float:
    """CPU seconds of a product of two 1024 x 1024 float32 matrices on one thread, the median of 20."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    matrix = torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    times = []
    for _ in range(REPEATS + 1):
        began = time.process_time()
        matrix @ matrix
        times.append(time.process_time() - began)
    torch.set_num_threads(threads)
    return statistics.median(times[1:])
