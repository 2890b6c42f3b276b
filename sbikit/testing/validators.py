"""The contract of validators."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import NoReturn

from sbikit.problem.errors import SbikitError
from sbikit.problem.variables import Variable, Vector
from sbikit.roles.evidence import Evidence
from sbikit.roles.validator import Curve, Metric, Report, Validator
from sbikit.testing.evidence import gather_evidence, on_disk
from sbikit.testing.field import GaussianField, GaussianFieldOptions
from sbikit.testing.promises import (
    ContractError,
    another_global_random_state,
    clone,
    global_random_state_kept,
    sbikit_errors_are_broken_promises,
    unchanged,
)
from sbikit.testing.spoiled import Spoiled
from sbikit.testing.vector import GaussianVector


def check_validator(validator: Validator) -> None:
    """Check that a validator passes an exact posterior, refuses a wrong one, and reports plain numbers.

    A calibrated validator may refuse one exact posterior by chance, so only two refusals of two count.
    Wrong posteriors are moved by one standard deviation, twice too narrow and twice too wide; a
    validator must refuse at least one of the three. One that needs a reference gets draws of the exact
    sampler, and must refuse evidence without them with an `SbikitError`. Draws on the disk must give the same
    report as draws in memory.

    Raises:
        ContractError: the first promise found broken.
    """
    where = f"{type(validator).__name__}.validate"
    toy = GaussianField(GaussianFieldOptions(size=8, parameters=1))
    exact = toy.exact_sampler()
    reference = exact if validator.needs_reference else None
    refused = []
    for seed in (0, 1):
        report = _validated(validator, gather_evidence(toy, exact, reference=reference, seed=seed), where)
        refused.append([f"{m.name} of {m.variable}" for m in report.metrics if m.verdict == "fail"])
    if all(refused):
        raise ContractError(
            "An exact posterior is refused.",
            where=where,
            expected="no verdict 'fail' on draws from the exact posterior",
            got="; ".join(sorted({text for texts in refused for text in texts})),
        )
    wrong = (Spoiled(exact, shift=1.0), Spoiled(exact, scale=0.5), Spoiled(exact, scale=2.0))
    reports = [
        _validated(validator, gather_evidence(toy, sampler, reference=reference), where) for sampler in wrong
    ]
    if not any(m.verdict == "fail" for report in reports for m in report.metrics):
        raise ContractError(
            "No wrong posterior is refused.",
            where=where,
            expected="a verdict 'fail' on draws that are shifted, too narrow or too wide",
            got="none",
        )
    vector = GaussianVector()
    right = vector.exact_sampler()
    evidence = gather_evidence(vector, right, reference=right if validator.needs_reference else None)
    report = _validated(validator, evidence, where)
    with another_global_random_state():
        again = _validated(validator, on_disk(evidence), where)
    if again != report:
        _refuse_another_report(validator, evidence, report, where)
    if validator.needs_reference:
        _check_refusal_without_reference(validator, replace(evidence, comparison=None), where)


def _refuse_another_report(validator: Validator, evidence: Evidence, report: Report, where: str) -> NoReturn:
    """Say why draws on the disk, at another global random state, gave another report."""
    with another_global_random_state():
        again = _validated(validator, evidence, where)
    if again != report:
        raise ContractError("The same seed gives another report.", where=where, expected="equal reports")
    raise ContractError(
        "Draws that lie on the disk give another report than the same draws in memory.",
        where=where,
        expected="equal reports",
        fix="read draws by evidence.blocks() or evidence.draws[name]: every reading is a copy of its own",
    )


def _check_refusal_without_reference(validator: Validator, evidence: Evidence, where: str) -> None:
    try:
        validator.validate(evidence, seed=0)
    except SbikitError:
        return
    except Exception as error:
        got = f"{type(error).__name__}: {error}"
    else:
        got = "a report"
    raise ContractError(
        "A validator that needs a reference must refuse evidence without one.",
        where=where,
        expected="an SbikitError",
        got=got,
    )


def _validated(validator: Validator, evidence: Evidence, where: str) -> Report:
    """The report, after checks of its form and of what became of the evidence."""
    compared = () if evidence.comparison is None else (evidence.comparison.exact, evidence.comparison.draws)
    parts = (evidence.truth, evidence.observation, evidence.draws, evidence.training, *compared)
    given = [clone(part) for part in parts]
    with sbikit_errors_are_broken_promises(where), global_random_state_kept(where):
        report = validator.validate(evidence, seed=0)
    for part, kept in zip(parts, given, strict=True):
        unchanged(part, kept, where)
    if not report.metrics:
        raise ContractError("The report has no metric.", where=where, expected="one or more")
    known = {*(name for v in evidence.spec.latents for name in _names(v)), "joint"}
    for metric in report.metrics:
        _check_metric(metric, known, where)
    for curve in report.curves:
        _check_curve(curve, known, where)
    return report


def _names(variable: Variable) -> tuple[str, ...]:
    """What a report may call a variable: its name, and its scalars or its channels after a dot."""
    parts = variable.labels if isinstance(variable, Vector) else range(1, variable.channels + 1)
    return (variable.name, *(f"{variable.name}.{part}" for part in parts))


def _check_metric(metric: Metric, known: set[str], where: str) -> None:
    given = (metric.value, metric.error, metric.ideal, metric.floor, metric.floor_error)
    plain = all(isinstance(x, float | int) and math.isfinite(x) for x in given if x is not None)
    plain = plain and metric.value is not None and metric.error is not None
    if not plain or metric.error < 0 or (metric.floor_error or 0.0) < 0 or metric.variable not in known:
        raise ContractError(
            f"The metric {metric.name!r} is not well formed.",
            where=where,
            expected=f"finite Python numbers, an error of 0 or more, a variable among {sorted(known)}",
            got=repr(metric),
        )
    if metric.p is not None and not 0.0 <= metric.p <= 1.0:
        raise ContractError(
            f"The p-value of {metric.name!r} is no probability.",
            where=where,
            expected="a number between 0 and 1, or None",
            got=repr(metric.p),
        )
    if metric.verdict not in ("pass", "fail", "none"):
        raise ContractError(
            "Unknown verdict.", where=where, expected="pass, fail or none", got=metric.verdict
        )
    _json(asdict(metric), f"metric {metric.name!r}", where)


def _check_curve(curve: Curve, known: set[str], where: str) -> None:
    lengths = {len(getattr(curve, axis)) for axis in ("x", "y", "low", "high", "ideal")}
    if len(lengths) != 1 or curve.variable not in known:
        raise ContractError(
            f"The curve {curve.name!r} is not well formed.",
            where=where,
            expected=f"sequences of one length, a variable among {sorted(known)}",
            got=f"lengths {sorted(lengths)}, variable {curve.variable!r}",
        )
    _json(asdict(curve), f"curve {curve.name!r}", where)


def _json(content: Mapping[str, object], what: str, where: str) -> None:
    try:
        json.dumps(content, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ContractError(
            f"The {what} cannot be written as JSON.",
            where=where,
            expected="Python numbers and strings, all finite",
            got=str(error),
        ) from error
