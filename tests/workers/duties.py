"""What workers do in tests: an argument is the name of a duty and what belongs to it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Duties:
    """Made once a worker."""

    def __init__(self, factor: int) -> None:
        self.factor = factor
        self.made_in = os.getpid()

    def __call__(self, argument: tuple[Any, ...]) -> Any:
        name, *rest = argument
        return getattr(self, name)(*rest)

    def multiply(self, x: int) -> int:
        return self.factor * x

    def who(self) -> tuple[int, int]:
        return os.getpid(), self.made_in

    def threads(self) -> str:
        return os.environ["OMP_NUM_THREADS"]

    def refuse(self, words: str) -> None:
        raise ValueError(words)

    def end(self, status: int) -> None:
        os._exit(status)

    def crash(self) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)

    def end_once(self, mark: str) -> str:
        """Kill the first process that gets here."""
        if not Path(mark).exists():
            Path(mark).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return "done"

    def wait_for(self, here: str, go: str) -> int:
        """Say who is here, and wait to be let go."""
        write(here, os.getpid())
        until(Path(go).exists)
        return os.getpid()

    def wait_for_deaths(self, folder: str, count: int) -> int:
        """Until so many workers have died in `make_one`."""
        until(lambda: len(list(Path(folder).iterdir())) > count)
        return count

    def hang(self, here: str) -> None:
        """For ever, with a process of its own."""
        child = subprocess.Popen(["sleep", "1000"])
        write(here, os.getpid(), child.pid)
        child.wait()

    def large(self, size: int) -> bytes:
        return bytes(size)


def make(factor: int) -> Duties:
    return Duties(factor)


def refuse(words: str) -> Duties:
    raise RuntimeError(words)


def end_at_once() -> Duties:
    os._exit(7)


def make_one(folder: str) -> Duties:
    """In the first process that makes it; any other dies of it, and leaves a mark in the folder."""
    marks = Path(folder)
    try:
        (marks / "first").touch(exist_ok=False)
    except FileExistsError:
        (marks / str(os.getpid())).touch()
        os._exit(7)
    return Duties(1)


def write(path: str, *numbers: int) -> None:
    """All or nothing."""
    Path(f"{path}.partial").write_text(" ".join(map(str, numbers)))
    os.replace(f"{path}.partial", path)


def read(path: Path) -> list[int]:
    until(path.exists)
    return [int(word) for word in path.read_text().split()]


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for something that another process does."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.01)


def gone(pid: int) -> bool:
    """Whether a process is no more, or a zombie that nobody has buried."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@contextmanager
def nobody_left(*paths: Path) -> Iterator[None]:
    """The processes whose numbers are written there are gone a while after the block."""
    yield
    for path in paths:
        for pid in read(path):
            until(lambda pid=pid: gone(pid))  # type: ignore[misc]
