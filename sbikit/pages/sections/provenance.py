"""How it was made: command, machine, time, versions, and what the reference says of itself."""

from __future__ import annotations

from dataclasses import dataclass

from sbikit.pages.numbers import duration, number
from sbikit.pages.run_files import RunFiles
from sbikit.pages.trust import WorstReadings, worst_readings


@dataclass(frozen=True)
class ProvenanceSection:
    """How the result was made."""

    command: str
    facts: list[tuple[str, str]]
    timings: list[tuple[str, str]]
    versions: list[tuple[str, str]]
    reference: WorstReadings | None


def provenance(files: RunFiles) -> ProvenanceSection:
    """Command, machine, time, versions, and what the reference sampler says of itself."""
    made = files.provenance
    seconds = made.get("seconds_a_draw")
    memory, count = made.get("peak_memory_mb"), made.get("simulations")
    facts = {
        "Training simulations": f"{int(count):,}" if count is not None else None,
        "Time of a simulation": f"{number(seconds, 2)} s" if seconds else None,
        "Seed": made.get("seed"),
        "Device": made.get("device"),
        "Platform": made.get("platform"),
        "Python": made.get("python"),
        "sbikit": made.get("sbikit"),
        "Revision": made.get("git"),
        "Started": str(made.get("started") or "").replace("T", " "),
        "Peak memory": f"{memory:,.0f} MB" if memory else None,
    }
    timings = made.get("timings") or {}
    rows = [(str(stage), duration(float(seconds))) for stage, seconds in timings.items()]
    if len(rows) > 1:
        rows.append(("total", duration(float(sum(timings.values())))))
    return ProvenanceSection(
        command=str(made.get("command") or ""),
        facts=[(key, str(value)) for key, value in facts.items() if value not in (None, "")],
        timings=rows,
        versions=[(str(key), str(value)) for key, value in (made.get("versions") or {}).items()],
        reference=worst_readings(files.reference_trust),
    )
