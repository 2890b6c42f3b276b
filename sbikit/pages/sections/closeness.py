"""How close to the exact posterior: the reference, whether it can be trusted, and what was compared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sbikit.pages.numbers import plural
from sbikit.pages.run_files import RunFiles
from sbikit.pages.sections.compared import ComparisonSection, comparison
from sbikit.pages.trust import reasons
from sbikit.roles.trust import Trust, doubted, spans, trusted
from sbikit.roles.validator import Report


@dataclass(frozen=True)
class Closeness:
    """The reference and what was compared with it.

    Args:
        reference: its name.
        headline: one line for the top of the page.
        state: pass, fail or none.
        sampled: on what it was run, in a sentence.
        left_out: what was not compared and why; "" where all was.
        shown: why the shown observation has no reference; "" where it has one.
        comparisons: one a validator.
    """

    reference: str
    headline: str
    state: str
    sampled: str
    left_out: str
    shown: str
    comparisons: list[ComparisonSection]


def closeness(files: RunFiles) -> Closeness | None:
    """Everything about the reference; None where the run has none."""
    if not files.run.get("reference"):
        return None
    name, estimator = (str(files.run[part]["name"]) for part in ("reference", "estimator"))
    trust = files.reference_trust
    reports = [report for report in files.reports if report.validator in files.compared]
    headline, state = _headline(name, trust, reports)
    return Closeness(
        reference=name,
        headline=headline,
        state=state,
        sampled=_sampled(name, estimator, trust),
        left_out=_left_out(trust),
        shown=_not_shown(files, name, trust),
        comparisons=[comparison(report, files.posterior.spec) for report in reports],
    )


# --- sentences -------------------------------------------------------------------------------


def _headline(name: str, trust: Sequence[Trust], reports: Iterable[Report]) -> tuple[str, str]:
    verdicts = [metric.verdict for report in reports for metric in report.metrics]
    judged = [verdict for verdict in verdicts if verdict != "none"]
    passed = judged.count("pass")
    if judged:
        words = f"{passed} of {plural(len(judged), 'figure')} within tolerance"
        return words, "pass" if passed == len(judged) else "fail"
    if not verdicts and trust:
        share = f"{len(trusted(trust))} of {plural(len(trust), 'observation')}"
        return f"not judged, {name} is to be trusted for {share}", "none"
    return "not judged", "none"


def _sampled(name: str, estimator: str, trust: Sequence[Trust]) -> str:
    if not trust:
        return f"{name} drew the exact posterior of held-out observations."
    text = f"{name} drew the exact posterior of {plural(len(trust), 'held-out observation')}"
    compared = f"With these, the draws of {estimator} are compared."
    good = len(trusted(trust))
    if good == len(trust):
        return f"{text}, and its draws can be trusted for all of them. {compared}"
    return f"{text}. Its draws can be trusted for {good} of them. {compared if good > 1 else ''}"


def _left_out(trust: Sequence[Trust]) -> str:
    rows = doubted(trust)
    if not rows:
        return ""
    which = f"Observation {rows[0]} is" if len(rows) == 1 else f"Observations {spans(rows)} are"
    why = _because([trust[b] for b in rows])
    return f"{which} left out, because the draws there cannot be called exact{why}."


def _not_shown(files: RunFiles, name: str, trust: Sequence[Trust]) -> str:
    if files.posterior.reference is not None:
        return ""
    why = _because([one for one in trust[:1] if not one.trustworthy])
    return (
        f"The sampler {name} was run on the same observation, but its draws there cannot be called exact "
        f"and are not shown{why}."
    )


def _because(trust: Sequence[Trust]) -> str:
    why = reasons(trust)
    return f": {why}" if why else ""
