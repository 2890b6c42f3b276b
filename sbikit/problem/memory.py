"""Sizes that no machine holds, refused before any work and not when memory or disk end hours later."""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import sys
from functools import cache
from pathlib import Path
from typing import Any

from sbikit.problem.errors import OptionError

_BYTES = 4  # of a float32


def memory_bytes() -> int:
    """Physical memory of this machine in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def peak_bytes() -> int:
    """Largest resident memory of this program so far.

    Of Linux's own record where there is one: getrusage counts what the program that started this one held.
    """
    status = Path("/proc/self/status")
    if status.exists():
        _, found, rest = status.read_text().partition("VmHWM:")
        if found:
            return int(rest.split()[0]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def give_back() -> None:
    """Return freed memory to the system.

    The allocator of the GNU C library keeps freed pieces below 32 MB for later. Where large ones come and go
    between small ones that stay, what it keeps grows with every block of draws. Elsewhere nothing is done.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Any:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None


def check_memory(numbers: float, what: str, *, where: str, fix: str) -> None:
    """Refuse to hold more float32 numbers at once than this machine has memory for.

    Args:
        numbers: how many.
        what: what they are, in words.
        where: the options that ask for them.
        fix: what to do.

    Raises:
        OptionError: they do not fit.
    """
    there = memory_bytes()
    if _BYTES * numbers > there:
        raise OptionError(
            f"There is no memory for {what}.",
            where=where,
            expected=f"at most {there / 1e9:.3g} GB, this machine's memory",
            got=f"{_BYTES * numbers / 1e9:.3g} GB",
            fix=fix,
        )


def check_disk(wanted: float, what: str, folder: Path, *, where: str, fix: str) -> float:
    """Refuse to write more bytes than the disk has free.

    Args:
        wanted: how many.
        what: what they are, in words.
        folder: where they go; it is there.
        where: the options that ask for them.
        fix: what to do.

    Returns:
        How many are free.

    Raises:
        OptionError: they do not fit.
    """
    there = float(shutil.disk_usage(folder).free)
    if wanted > there:
        raise OptionError(
            f"There is no room on the disk for {what}.",
            where=where,
            expected=f"at most {there / 1e9:.3g} GB, what is free at {folder}",
            got=f"{wanted / 1e9:.3g} GB",
            fix=fix,
        )
    return there
