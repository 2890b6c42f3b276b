"""metrics.json: what the validators found, as JSON.

    {"reports": [{"validator": ..., "metrics": [...], "curves": [...], "references": [...], "sees": [...]},
                 ...],
     "compared": [validators whose figures compare with an exact sampler]}

The keys are the fields of `Report`, `Metric` and `Curve`; those with a default may be missing. Numbers are
finite, as JSON demands.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any, TypeVar

from sbikit.problem.errors import PluginError, RunFolderError
from sbikit.roles.validator import Curve, Metric, Report
from sbikit.storage.files import read_json, write_json

_Record = TypeVar("_Record", Metric, Curve)
_SEQUENCES = ("x", "y", "low", "high", "ideal")


def report_to_dict(report: Report) -> dict[str, Any]:
    """A report as plain JSON types.

    Raises:
        PluginError: a number is not finite, or the sequences of a curve differ in length.
    """
    problem = _problem(report)
    if problem:
        raise PluginError(
            f"The validator {report.validator!r} returned a report that cannot be kept: {problem}.",
            where=report.validator,
            expected="finite numbers, a verdict of pass, fail or none, curves of one length",
            fix="report this to the author of the validator",
        )
    record: dict[str, Any] = json.loads(json.dumps(asdict(report), default=float))
    return record


def report_from_dict(record: Mapping[str, Any], *, where: str = "report") -> Report:
    """The report that `report_to_dict` wrote.

    Raises:
        RunFolderError: a key is missing or unknown, a type is wrong, or a number is not finite.
    """
    try:
        report = Report(
            validator=str(record["validator"]),
            metrics=tuple(_record(Metric, entry) for entry in record["metrics"]),
            curves=tuple(_record(Curve, entry) for entry in record["curves"]),
            references=tuple(str(text) for text in record["references"]),
            sees=tuple(str(text) for text in record.get("sees", ())),
        )
        problem = _problem(report)
    except (KeyError, TypeError, ValueError) as error:
        problem = f"{type(error).__name__}: {error}"
    if problem:
        raise RunFolderError(
            "A calibration report is damaged.",
            where=where,
            expected="the keys of sbikit.Report with finite numbers",
            got=problem,
            fix="run `sbikit validate` on the folder again",
        )
    return report


def write_metrics(path: Path, reports: Iterable[Report], compared: Iterable[str] = ()) -> None:
    """Write metrics.json: all of it or nothing.

    Args:
        path: the file.
        reports: what the validators found.
        compared: the validators among them that compared with an exact sampler.

    Raises:
        PluginError: a report cannot be kept, see `report_to_dict`.
    """
    record = {"reports": [report_to_dict(report) for report in reports], "compared": list(compared)}
    write_json(path, record, indent=1)


def read_metrics(path: Path) -> tuple[Report, ...]:
    """Read metrics.json.

    Raises:
        RunFolderError: the file is missing or damaged.
    """
    records = _content(path)["reports"]
    return tuple(report_from_dict(record, where=f"{path}, report {i}") for i, record in enumerate(records))


def read_compared(path: Path) -> frozenset[str]:
    """The validators in metrics.json that compared with an exact sampler.

    Raises:
        RunFolderError: the file is missing or damaged.
    """
    return frozenset(str(name) for name in _content(path).get("compared", ()))


def _content(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path)
        if all(isinstance(part, list) for part in (found["reports"], found.get("compared", []))):
            return found
        problem = "reports and compared are no lists"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"{type(error).__name__}: {error}"
    raise RunFolderError(
        "The calibration reports cannot be read.",
        where=str(path),
        expected='{"reports": [...]}',
        got=problem,
        fix="run `sbikit validate` on the folder again",
    )


def _record(kind: type[_Record], entry: Mapping[str, Any]) -> _Record:
    known = {field.name for field in fields(kind)}
    needed = {field.name for field in fields(kind) if field.default is MISSING}
    if not needed <= set(entry) <= known:
        raise ValueError(f"{kind.__name__} has the keys {sorted(entry)} instead of {sorted(known)}")
    columns: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in entry.items()}
    return kind(**columns)


def _problem(report: Report) -> str:
    """What is wrong with a report, "" where nothing is."""
    problems = [_metric_problem(metric) for metric in report.metrics]
    problems += [_curve_problem(curve) for curve in report.curves]
    return next((problem for problem in problems if problem), "")


def _metric_problem(metric: Metric) -> str:
    about = f"{metric.name} of {metric.variable}"
    numbers = [metric.value, metric.error, 0.0 if metric.ideal is None else metric.ideal]
    if not all(math.isfinite(number) for number in numbers):
        return f"{about} is {metric.value} ± {metric.error}"
    floor = (metric.floor, metric.floor_error)
    if floor != (None, None) and not all(part is not None and math.isfinite(part) for part in floor):
        return f"the floor of {about} is {metric.floor} ± {metric.floor_error}"
    if metric.p is not None and not 0.0 <= metric.p <= 1.0:
        return f"{about} has the p-value {metric.p}"
    if metric.verdict not in ("pass", "fail", "none"):
        return f"{about} has the verdict {metric.verdict!r}"
    return ""


def _curve_problem(curve: Curve) -> str:
    about = f"curve {curve.name} of {curve.variable}"
    columns = [getattr(curve, name) for name in _SEQUENCES]
    if len({len(column) for column in columns}) != 1 or not columns[0]:
        return f"the sequences of {about} differ in length or are empty"
    if not all(math.isfinite(number) for column in columns for number in column):
        return f"{about} has values that are not finite"
    if curve.band not in ("measured", "ideal"):
        return f"the band of {about} is around {curve.band!r}"
    return ""


__all__ = ["read_compared", "read_metrics", "report_from_dict", "report_to_dict", "write_metrics"]
