"""What the command line prints, and how it ends: 0 done, 2 a mistake of the user, 130 interrupted, 141 nobody
reads on, 1 else.
"""

from __future__ import annotations

import errno
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import typer
from rich.console import Console
from rich.text import Text

from sbikit.problem.errors import SbikitError
from sbikit.storage.files import append_text

_WIDTH = 120  # of tables that do not go to a terminal
NOBODY_READS = 128 + signal.SIGPIPE  # as shells say it


class ReaderGone(Exception):
    """What is printed goes into a pipe that nobody reads any more, as after `| head`."""


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to `guarded` how the program ends."""
        raise ReaderGone from None


def console(*, stderr: bool = False) -> Console:
    """Standard output for results, standard error for everything on the way."""
    found = _Console(stderr=stderr, highlight=False)
    return found if found.is_terminal else _Console(stderr=stderr, highlight=False, width=_WIDTH)


@dataclass
class Session:
    """What a command has told the guard.

    Args:
        log: run.log of the folder it works in, None before there is one.
        resumes: whether the same command goes on after an interrupt.
    """

    log: Path | None = None
    resumes: bool = False


@contextmanager
def guarded(debug: bool = False) -> Iterator[Session]:
    """Turn whatever ends the block into a message and an exit status."""
    session = Session()
    with _terminations():
        try:
            yield session
        except KeyboardInterrupt:
            goes_on = " The same command goes on from here." if session.resumes else ""
            _print(f"Interrupted.{goes_on}", "bold yellow")
            _record(session, "interrupted")
            raise typer.Exit(130) from None
        except ReaderGone:
            _record(session, "nobody reads what is printed")
            raise typer.Exit(NOBODY_READS) from None
        except SbikitError as error:
            _record(session, str(error))
            _refuse(error, debug)
            raise typer.Exit(2) from None
        except SystemExit as end:
            refusal = _ended(end)
            _record(session, str(refusal))
            _refuse(refusal, debug)
            raise typer.Exit(2) from None
        except OSError as error:
            if not _is_of_a_file(error):
                _fail(error, session, debug)
                raise typer.Exit(1) from None
            refusal = _of_a_file(error)
            _record(session, str(refusal))
            _refuse(refusal, debug)
            raise typer.Exit(2) from None
        except Exception as error:
            if _is_exit(error):
                raise
            _fail(error, session, debug)
            raise typer.Exit(1) from None


def _is_exit(error: BaseException) -> bool:
    """Whether typer or click raised it to end the program."""
    return type(error).__module__.partition(".")[0] in ("typer", "click")


def _ended(end: SystemExit) -> SbikitError:
    """The refusal of what a plug-in ended: without it the command would seem to have done its work."""
    place = traceback.extract_tb(end.__traceback__)[-1]
    return SbikitError(
        "Code that the command called ended the program before the work was done.",
        where=f"{place.filename}:{place.lineno}",
        got=f"SystemExit({end.code!r})",
        fix="let it raise an error instead of calling sys.exit",
    )


def _is_of_a_file(error: OSError) -> bool:
    """Whether the user can mend it: a file, or the room for one, and no defect of a program."""
    return error.filename is not None or error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def _of_a_file(error: OSError) -> SbikitError:
    return SbikitError(
        f"A file cannot be read or written: {error.strerror or error}.",
        where="" if error.filename is None else str(error.filename),
        fix="check the path, who may use it, and that the disk has room; the same command goes on from here",
    )


def _refuse(error: SbikitError, debug: bool) -> None:
    if debug:
        traceback.print_exception(error)
    message, _, rows = str(error).partition("\n")
    _print(f"error: {message}", "bold red")
    if rows:
        _print(rows, "")


def _fail(error: Exception, session: Session, debug: bool) -> None:
    if debug:
        traceback.print_exception(error)
    _record(session, "".join(traceback.format_exception(error)).rstrip())
    elsewhere = f", or see {session.log}" if session.log else ""
    advice = "" if debug else f" (use --debug for the traceback{elsewhere})"
    summary = (str(error).strip().splitlines() or [""])[0]
    _print(f"failed: {type(error).__name__}: {summary}{advice}", "bold red")


def _print(text: str, style: str) -> None:
    """A line on standard error, if it takes one: what is to be said does not depend on who listens."""
    with suppress(OSError, ValueError, ReaderGone):
        console(stderr=True).print(Text(text, style=style), soft_wrap=True)


def tell(text: str) -> None:
    """Something that the user must not miss, on standard error."""
    _print(text, "bold red")


def _record(session: Session, text: str) -> None:
    if session.log is None:
        return
    try:
        append_text(session.log, text + "\n")
    except OSError as error:
        _print(f"{session.log} cannot be written: {error.strerror or error}", "yellow")


@contextmanager
def _terminations() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(signum: int, frame: FrameType | None) -> None:
        del signum, frame
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def put(text: str) -> None:
    """Plain text on standard output, as it is, and at once: an error shows here and not at the end."""
    try:
        sys.stdout.write(text if text.endswith("\n") else text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise ReaderGone from None
