"""Standard streams as they may be: closed, full, of few letters; and a log that takes nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sbikit.cli.terminal import guarded
from sbikit.problem.errors import SbikitError


def shell(command: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", command.replace("sbikit", f"{sys.executable} -m sbikit")],
        env={**os.environ, **more},
        capture_output=True,
        text=True,
        check=False,
        encoding="utf-8",
        errors="replace",
    )


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("sbikit plugins >&-", 0),
        ("sbikit plugins 2>&-", 0),
        ("sbikit plugins <&- >&- 2>&-", 0),
        ("sbikit config show >&-", 0),
        ("sbikit --version > /dev/full", 1),
        ("sbikit --help > /dev/full", 1),
        ("sbikit plugins > /dev/full", 2),
        ("sbikit config show > /dev/full", 2),
        ("sbikit config show --set x=1 2> /dev/full", 2),
    ],
)
def test_closed_and_full_streams_bring_no_traceback(command: str, status: int) -> None:
    found = shell(command)
    assert found.returncode == status, found.stderr
    assert "Traceback" not in found.stderr
    assert "Exception ignored" not in found.stderr
    if "> /dev/full" in command and "2>" not in command:
        assert "No space left" in found.stderr


@pytest.mark.parametrize(
    ("command", "status"),
    [("plugins show lognormal", 141), ("config show", 141), ("plugins", 141), ("--help", 1)],  # click's own
)
def test_a_reader_that_goes_early_ends_it_without_a_word(command: str, status: int) -> None:
    """A pipe that is closed before anything is written, as after `| head`."""
    read, write = os.pipe()
    os.close(read)
    found = subprocess.run(
        [sys.executable, "-m", "sbikit", *command.split()], stdout=write, stderr=subprocess.PIPE, check=False
    )
    os.close(write)
    assert (found.returncode, found.stderr) == (status, b"")


def test_a_terminal_of_few_letters_is_no_obstacle(tmp_path: Path) -> None:
    for command in ("sbikit plugins show lognormal", "sbikit config show --set seed=é", "sbikit run --sim ü"):
        found = shell(command, PYTHONIOENCODING="ascii", PYTHONUTF8="0", LC_ALL="C", LANG="C")
        assert "Traceback" not in found.stderr
        assert found.returncode == (0 if "plugins" in command else 2)


def fail(log: Path, error: BaseException) -> None:
    with guarded() as session:
        session.log = log
        raise error


@pytest.mark.parametrize("error", [SbikitError("wrong"), RuntimeError("defect"), KeyboardInterrupt()])
def test_a_log_that_cannot_be_written_changes_no_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], error: BaseException
) -> None:
    import typer

    for log in (tmp_path, tmp_path / "absent" / "run.log", Path("/proc/run.log")):
        with pytest.raises(typer.Exit):
            fail(log, error)
        said = capsys.readouterr().err
        assert "cannot be written" in said
        assert "Traceback" not in said


def test_a_plugin_that_ends_the_program_is_no_success(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import typer

    with pytest.raises(typer.Exit) as caught:
        fail(tmp_path / "run.log", SystemExit(0))
    assert caught.value.exit_code == 2
    assert "ended the program" in capsys.readouterr().err


def test_a_file_that_cannot_be_used_is_the_users_to_mend(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import typer

    missing = FileNotFoundError(2, "No such file or directory", str(tmp_path / "absent"))
    with pytest.raises(typer.Exit) as caught:
        fail(tmp_path / "run.log", missing)
    assert caught.value.exit_code == 2
    assert str(tmp_path / "absent") in capsys.readouterr().err
