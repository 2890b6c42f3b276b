"""A program that reads a file of parameters and writes a file of data, called once a draw.

Every call has a folder of its own, which is removed after it, so that many may run at once; nothing passes
through a shell. A program that fails, does not end or writes something else than it should raises an error
with what it said.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sbikit import PluginError

_SCRIPT = Path(__file__).with_name("oscillator.awk")
_MOST_WORDS = 500  # letters of what the program said that go into a message


class ProgramError(RuntimeError):
    """The program did not do its work for one draw; the message says why, in its own words."""


def interpreter() -> str:
    """The path of awk, which every Unix has.

    Raises:
        PluginError: there is none.
    """
    found = shutil.which("awk")
    if found is None:
        raise PluginError(
            "The simulator 'oscillator' needs the program awk.",
            where="PATH",
            expected="awk: mawk, gawk or BusyBox's",
            got="none",
            fix="install one, for example the Debian package mawk",
        )
    return found


def called(awk: str, given: Mapping[str, float], *, seconds: float) -> NDArray[np.float64]:
    """The series that the program makes of parameters.

    Args:
        awk: path of awk.
        given: name -> number, see the head of oscillator.awk.
        seconds: after which the program is ended.

    Returns:
        The displacements, one a time.

    Raises:
        ProgramError: it ends with another status than 0, not in time, or writes no table of numbers.
    """
    with tempfile.TemporaryDirectory(prefix="oscillator-") as place:
        parameters, output = Path(place, "parameters.txt"), Path(place, "series.txt")
        parameters.write_text("".join(f"{name} {value!r}\n" for name, value in given.items()))
        _run([awk, "-f", str(_SCRIPT), parameters.name, output.name], place, seconds)
        return _read(output, int(given["times"]))


def _run(command: list[str], place: str, seconds: float) -> None:
    # Numbers with a decimal point, wherever the user lives; else nothing that the results could depend on.
    environment = {"LC_ALL": "C", "PATH": os.environ.get("PATH", os.defpath)}
    try:
        done = subprocess.run(
            command,
            cwd=place,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ProgramError(f"awk did not end within {seconds:g} s") from None
    if done.returncode != 0:
        words = done.stderr.strip()[:_MOST_WORDS] or "nothing on standard error"
        raise ProgramError(f"awk ended with status {done.returncode}: {words}")


def _read(output: Path, times: int) -> NDArray[np.float64]:
    try:
        rows = [[float(word) for word in line.split()] for line in output.read_text().splitlines()]
        table = np.array(rows, dtype=np.float64)
    except (OSError, ValueError) as error:
        raise ProgramError(f"the output of awk cannot be read: {error}") from None
    if table.shape != (times, 2):
        raise ProgramError(f"awk wrote a table of shape {table.shape}, not {(times, 2)}")
    return table[:, 1]
