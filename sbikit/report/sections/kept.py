"""Kept simulations: how many, which of them failed, why, and where in the space of the parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sbikit.problem.variables import Vector
from sbikit.report.figures.failing import Along, failing_plot
from sbikit.report.figures.labels import math_label
from sbikit.report.numbers import number, plural
from sbikit.report.pictures import Picture, make_picture
from sbikit.report.run_files import RunFiles

_REASONS = {
    "not finite": "returned values that are not finite",
    "raised": "raised an error",
    "timeout": "took too long",
}


@dataclass(frozen=True)
class Failed:
    """A failed draw that is shown."""

    draw: str
    parameters: str
    reason: str


@dataclass(frozen=True)
class KeptSection:
    """What was kept in words, and which draws failed."""

    words: str
    warning: str
    facts: list[tuple[str, str]]
    failed: list[Failed]
    picture: Picture | None


def kept_simulations(files: RunFiles) -> KeptSection | None:
    """The simulations that were trained on; None where none were kept."""
    kept = files.kept
    if not kept:
        return None
    count, good, failures = int(kept["count"]), int(kept["good"]), dict(kept["failures"])
    asked = files.run.get("simulations") or {}
    facts = {
        "Simulations": f"{good:,} good of {count:,}",
        "Where": str(asked.get("store") or "simulations.zarr in this folder"),
        "Digest of them all": str(kept["content"]),
    }
    facts |= {f"Failed, {kind}": f"{n:,} ({_percent(n, count)})" for kind, n in failures.items()}
    return KeptSection(
        words=f"Training saw {plural(good, 'simulation')}, which were made once and kept.",
        warning=_warning(failures, count),
        facts=list(facts.items()),
        failed=[_shown(one) for one in files.failed.get("examples", ())],
        picture=_picture(files) if files.failed.get("where") else None,
    )


def _warning(failures: Mapping[str, int], count: int) -> str:
    total = sum(failures.values())
    if not total:
        return ""
    why = ", ".join(f"in {n:,} the simulator {_REASONS.get(kind, kind)}" for kind, n in failures.items())
    return (
        f"{plural(total, 'draw')} of {count:,} failed ({_percent(total, count)}) and took no part: {why}. "
        "The posterior is that of the problem given that the simulator works: where draws fail, the prior "
        "was thinned out by as much."
    )


def _percent(part: int, whole: int) -> str:
    return f"{number(100 * part / whole, 2)} %"


def _shown(one: Mapping[str, Any]) -> Failed:
    values = ", ".join(f"{label} = {number(value)}" for label, value in one["parameters"].items())
    return Failed(f"{one['draw']:,}", values, f"{one['reason'] or one['kind']}")


def _picture(files: RunFiles) -> Picture:
    where = files.failed["where"]
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
        "failed-draws",
        "Share of failed draws along each parameter",
        "Share of the draws that failed, in bins that are equally probable under the prior, ± one standard "
        "error; dashed the share of all draws.",
        "bins far above the dashed line. There the simulator works for a part of the prior alone, and the "
        "posterior knows only that part.",
        lambda layout: failing_plot(along, layout),
    )
