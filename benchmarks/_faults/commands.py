"""The command line in a forked process: its imports are paid once, and it can be killed at any moment."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 300.0  # seconds after which a command is taken to hang


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Args:
        status: its exit status; -9 where it was killed on purpose, None where it hung.
        out, err: what it printed.
        seconds: how long it took.
    """

    status: int | None
    out: str
    err: str
    seconds: float

    def refused(self) -> bool:
        """Whether it was refused as it should be: status 2, a message, no traceback."""
        return self.status == 2 and "error" in self.err.lower() and not self.broke()

    def broke(self) -> bool:
        """Whether a traceback was shown, or it hung."""
        return self.status is None or "Traceback (most recent call last)" in self.out + self.err

    def last(self) -> str:
        """The end of what it said."""
        lines = [line for line in self.err.splitlines() if line.strip()]
        return " | ".join(lines[-4:])[-400:]


def command(words: list[str], folder: Path, *, kill_after: float | None = None) -> Outcome:
    """Run `sbikit WORDS` in a folder.

    Args:
        words: what follows `sbikit`.
        folder: where; what it prints is kept in its parent.
        kill_after: seconds after which it gets SIGKILL.
    """
    out, err = (folder.parent / f"{folder.name}.{name}" for name in ("out", "err"))
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        _be_sbikit(words, folder, out, err)
    limit = PATIENCE if kill_after is None else kill_after
    status = _wait(child, began + limit)
    if status is None:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        status = -9 if kill_after is not None else None
    # A command that is killed at once has not opened them.
    texts = [file.read_text(errors="replace") if file.exists() else "" for file in (out, err)]
    return Outcome(status, *texts, time.monotonic() - began)


def _wait(child: int, until: float) -> int | None:
    """Exit status of a child, None where it is at work still at that time."""
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    return None


def _be_sbikit(words: list[str], folder: Path, out: Path, err: Path) -> None:
    """What the child does; it never returns."""
    status = 1
    try:
        os.chdir(folder)
        for number, file in ((1, out), (2, err)):
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(descriptor, number)
        sys.stdout, sys.stderr = (os.fdopen(n, "w", encoding="utf-8", closefd=False) for n in (1, 2))
        sys.argv = ["sbikit", *words]
        from sbikit.cli import main

        main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(bool(end.code))
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                status = status or 1
        os._exit(status)
