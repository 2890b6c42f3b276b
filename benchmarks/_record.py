"""One figure a line, as JSON, so that a result in the docs names the command that made it."""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path

import torch


def record(
    name: str,
    value: float,
    error: float | None,
    *,
    goal: str | None = None,
    ok: bool | None = None,
    ratio_to: str | None = None,
    device: str | None = None,
    floor: float | None = None,
    floor_error: float | None = None,
    ideal: float | None = None,
) -> None:
    """Print one figure.

    Args:
        name: what was measured, with its unit.
        value: the figure.
        error: its standard error; None for what is computed without randomness or is a maximum.
        goal: what the figure should be, in words; left out of the line where there is none.
        ok: whether it is.
        ratio_to: what the figure is relative to, where it is a ratio.
        device: where it was measured; this processor and torch's threads where left out.
        floor: the same figure between two sets of exact draws; left out of the line where there is none.
        floor_error: the standard error of that.
        ideal: what it is for an exact posterior, where known.
    """
    line: dict[str, str | float | bool | None] = {"name": name, "value": value, "error": error}
    if goal is not None:
        line |= {"goal": goal, "ok": ok}
    if floor is not None:
        line |= {"floor": floor, "floor_error": floor_error}
    if ideal is not None:
        line["ideal"] = ideal
    line |= {"ratio_to": ratio_to, "device": device or _processor(), "command": _command()}
    print(json.dumps(line), flush=True)


def _processor() -> str:
    """The processor and how many threads torch may use."""
    model = platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        names = [
            row.split(":", 1)[1].strip()
            for row in information.read_text().splitlines()
            if "model name" in row
        ]
        model = names[0] if names else model
    return f"{model}, {torch.get_num_threads()} thread(s)"


def _command() -> str:
    """The command as typed at the root of the repository, of absolute paths only the last part."""
    script = Path(sys.argv[0]).resolve()
    words = [Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:]]
    return " ".join(["python", f"{script.parent.name}/{script.name}", *words])
