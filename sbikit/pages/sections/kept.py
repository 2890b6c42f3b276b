"""Simulations: how many were kept, which draws failed, why, and where in the space of the parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sbikit.pages.figures.failing import Along, failing_plot
from sbikit.pages.figures.labels import math_label
from sbikit.pages.numbers import number, plural
from sbikit.pages.pictures import Picture, make_picture
from sbikit.pages.run_files import RunFiles
from sbikit.problem.variables import Vector

_REASONS = {
    "not finite": "returned values that are not finite",
    "raised": "raised an error",
    "timeout": "took too long",
}


@dataclass(frozen=True)
class FailedDraw:
    """A failed draw that is shown."""

    draw: str
    parameters: str
    reason: str


@dataclass(frozen=True)
class Failures:
    """Draws of one kind that failed."""

    words: str
    examples: list[FailedDraw]
    picture: Picture


@dataclass(frozen=True)
class SimulationsSection:
    """What was kept, in words and figures, and which draws failed."""

    words: str
    facts: list[tuple[str, str]]
    failures: list[Failures]


def simulations(files: RunFiles) -> SimulationsSection | None:
    """What there is to say of simulations; None where none were kept and none failed."""
    kept, left_out = files.kept, files.left_out
    failures = []
    if kept and kept["failures"]:
        words = _in_words("kept simulations", kept["failures"], int(kept["count"]), "are left out")
        failures.append(_failures(files, "failed-draws", words, files.failed))
    if left_out:
        which = "held-out simulations" if kept else "simulations drawn as they were needed"
        words = _in_words(
            which, left_out["failures"], int(left_out["tried"]), "were replaced by further ones"
        )
        failures.append(_failures(files, "left-out-draws", words, left_out))
    if not kept and not failures:
        return None
    return SimulationsSection(_kept_in_words(kept), _facts(files) if kept else [], failures)


def _kept_in_words(kept: Mapping[str, Any]) -> str:
    good = int(kept["good"]) if kept else 0
    return f"Training saw {plural(good, 'simulation')}, made once and kept." if kept else ""


def _facts(files: RunFiles) -> list[tuple[str, str]]:
    kept, asked = files.kept, files.run.get("simulations") or {}
    return [
        ("Simulations", f"{int(kept['good']):,} good of {int(kept['count']):,}"),
        ("Where", str(asked.get("store") or "simulations.zarr in this folder")),
        ("Digest of them all", str(kept["content"])),
    ]


def _in_words(which: str, failures: Mapping[str, int], count: int, so: str) -> str:
    total = sum(failures.values())
    why = ", ".join(f"{_REASONS.get(kind, kind)} in {n:,}" for kind, n in failures.items())
    return f"{total:,} of {count:,} {which} failed ({_percent(total, count)}) and {so}: the simulator {why}."


def _failures(files: RunFiles, name: str, words: str, found: Mapping[str, Any]) -> Failures:
    return Failures(words, [_shown(one) for one in found["examples"]], _picture(files, name, found["where"]))


def _percent(part: int, whole: int) -> str:
    return f"{number(100 * part / whole, 2)} %"


def _shown(one: Mapping[str, Any]) -> FailedDraw:
    values = ", ".join(f"{label} = {number(value)}" for label, value in one["parameters"].items())
    stream = f" ({one['stream']})" if "stream" in one else ""
    return FailedDraw(f"{one['draw']:,}{stream}", values, str(one["reason"] or one["kind"]))


def _picture(files: RunFiles, name: str, where: Mapping[str, Any]) -> Picture:
    known = {
        label: (math_label(latex, label), unit)
        for vector in files.posterior.spec.latents
        if isinstance(vector, Vector)
        for label, latex, unit in zip(vector.labels, vector.latex, vector.units, strict=True)
    }
    along = [
        Along(*known.get(label, (label, "")), *(np.array(one[key]) for key in ("edges", "tried", "failed")))
        for label, one in where.items()
    ]
    return make_picture(
        name,
        "Share of failed draws along each parameter",
        "Share of the draws that failed, in bins that are equally probable under the prior, ± one standard "
        "error; dashed the share of all draws.",
        "bins far above the dashed line. There the simulator works for a part of the prior alone, and the "
        "posterior knows only that part.",
        lambda layout: failing_plot(along, layout),
    )
