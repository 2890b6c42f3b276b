"""Learning rates over a training."""

from __future__ import annotations

import math


def cosine(step: int, steps: int, warm_up: int = 0) -> float:
    """Factor on the learning rate at `step` of `steps`: a linear rise over `warm_up` steps, then half a
    cosine to zero (Loshchilov and Hutter 2017, arXiv:1608.03983, without restarts).
    """
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1.0 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))
