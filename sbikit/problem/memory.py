"""Sizes that no machine holds, refused before any work is done and not when memory ends hours later."""

from __future__ import annotations

import os

from sbikit.problem.errors import OptionError

_BYTES = 4  # of a float32


def memory_bytes() -> int:
    """Physical memory of this machine in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


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
