"""`benchmarks/paper.py` on a fit that takes too long: a script in place of sbikit."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import paper
import pytest

# As started in the background by a shell, it does not hear interrupts, and says when it is told to end.
_FIT = """#!{python}
import signal, sys, time, pathlib
signal.signal(signal.SIGINT, signal.SIG_IGN)
def end(*_):
    pathlib.Path("{ended}").write_text("once")
    sys.exit(130)
signal.signal(signal.SIGTERM, end)
pathlib.Path("{begun}").touch()
time.sleep(60)
"""


@pytest.fixture
def fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which it leaves its signs."""
    script = tmp_path / "fit"
    script.write_text(_FIT.format(python=sys.executable, ended=tmp_path / "ended", begun=tmp_path / "begun"))
    script.chmod(0o755)
    monkeypatch.setattr(paper.sys, "executable", str(script))
    return tmp_path


@pytest.fixture
def interrupts() -> Iterator[None]:
    """What interrupts do is afterwards what it was before."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_piece_ends_its_fit_in_time(fit: Path) -> None:
    assert not paper.piece([], 3.0)
    assert (fit / "ended").exists()


def by_exit(*_: object) -> None:
    raise SystemExit


@pytest.mark.parametrize(
    ("handler", "raised"), [(signal.default_int_handler, KeyboardInterrupt), (by_exit, SystemExit)]
)
def test_a_piece_that_is_interrupted_ends_its_fit(
    handler: Callable[..., object], raised: type[BaseException], fit: Path, interrupts: None
) -> None:
    def interrupt() -> None:
        while not (fit / "begun").exists():
            pass
        os.kill(os.getpid(), signal.SIGINT)

    signal.signal(signal.SIGINT, handler)
    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(raised):
        paper.piece([], 60.0)
    assert (fit / "ended").exists()
