"""How OpenMP's threads wait for each other; it is read when torch is loaded, so set before.

An operation of torch is divided among threads, which meet at its end. By default the one that is done first
spins until the others are, for about a millisecond, and so takes a core from whoever would use it. On two
cores with one other busy process that is fatal: the thread that shares its core gets a third of it (by
Linux's share a session) while the other spins, and a small network's training fell from 12 steps a second
to one in eight seconds. Threads that sleep instead leave the core to the slower one. That costs the time to
wake them, some tens of microseconds an operation: what has shorter ones should use `one_thread`
(benchmarks/busy.py).
"""

from __future__ import annotations

import os

# Of OpenMP, and of the two implementations that torch is built with.
_CHOICES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def let_threads_sleep() -> None:
    """Make waiting threads sleep, unless the user has chosen how they wait. In vain once torch is loaded."""
    if not any(name in os.environ for name in _CHOICES):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
