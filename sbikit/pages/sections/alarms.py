"""How often the checks of a page would raise an alarm about an exact posterior."""

from __future__ import annotations

from collections.abc import Sequence

from sbikit.pages.numbers import number
from sbikit.pages.run_files import RunFiles
from sbikit.roles.validator import Report


def false_alarms(files: RunFiles, reports: Sequence[Report]) -> str:
    """At most so many of 100 pages about exact posteriors, "" where a validator does not say.

    A validator says it by its option `alpha`: the probability that any of its verdicts fails there.
    """
    chosen = {str(one["name"]): one.get("alpha") for one in files.run.get("validators") or ()}
    judging = [r.validator for r in reports if any(m.verdict != "none" for m in r.metrics)]
    shares = [chosen.get(name) for name in judging]
    known = [float(share) for share in shares if isinstance(share, float | int)]
    return number(100.0 * sum(known), 2) if known and len(known) == len(shares) else ""
