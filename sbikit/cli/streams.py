"""Standard input, output and error as they may be: closed, full, or of few letters."""

from __future__ import annotations

import os
import sys
from typing import TextIO


def steady_streams() -> None:
    """Give closed streams a place that takes everything, and show letters that a stream lacks as `\\xb1`.

    Otherwise the next file opened would take the place of a closed stream, and what is printed go into it.
    """
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(descriptor)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != descriptor:
                os.dup2(nowhere, descriptor)
                os.close(nowhere)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(descriptor, mode, encoding="utf-8", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def flushed(stream: TextIO) -> OSError | None:
    """Write out what a stream holds back; the error where it cannot, and then what it holds is dropped."""
    try:
        stream.flush()
    except OSError as error:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        return error
    return None
