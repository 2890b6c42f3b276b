"""What the validators found, as a table for a terminal or a notebook."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from sbikit.roles.validator import Metric, Report

LONG = 20  # figures of a validator beyond which those that fail are shown: one screen
_COLOURS = {"pass": "green", "fail": "bold red", "none": ""}


def verdict_table(reports: Sequence[Report], longest: int | None = LONG) -> tuple[Table, list[Text]]:
    """The figures, one a row, and a line about each validator that has more than can be shown.

    Args:
        reports: of the validators, which share some figures; each is shown once.
        longest: of a validator with more figures those that fail are shown; None shows all.
    """
    floors = any(metric.floor is not None for report in reports for metric in report.metrics)
    heads = ("validator", "figure", "of", "value", *(["floor"] if floors else []), "ideal", "verdict")
    table = Table(*heads, box=None, pad_edge=False)
    shown: set[Metric] = set()
    for report in reports:
        for metric in _worth_showing(report, longest):
            if metric not in shown:
                shown.add(metric)
                table.add_row(report.validator, *_row(metric, floors), style=_COLOURS[metric.verdict])
    return table, [_summary(report) for report in reports if _is_long(report, longest)]


def _row(metric: Metric, floors: bool) -> list[str]:
    """Figure, what it is of, value, floor where the table has such a column, ideal value, verdict."""
    known = metric.floor is not None and metric.floor_error is not None
    floor = f"{metric.floor:.4g} ± {metric.floor_error:.2g}" if known else ""
    return [
        metric.name,
        metric.variable,
        f"{metric.value:.4g} ± {metric.error:.2g}",
        *([floor] if floors else []),
        "" if metric.ideal is None else f"{metric.ideal:.4g}",
        "" if metric.verdict == "none" else metric.verdict,
    ]


def _is_long(report: Report, longest: int | None) -> bool:
    return longest is not None and len(report.metrics) > longest


def _worth_showing(report: Report, longest: int | None) -> list[Metric]:
    """All figures of a validator, or those that fail where there are many."""
    everything = not _is_long(report, longest)
    return [metric for metric in report.metrics if everything or metric.verdict == "fail"]


def _summary(report: Report) -> Text:
    """How a validator with many figures went, on one line."""
    judged = [metric for metric in report.metrics if metric.verdict != "none"]
    failed = sum(metric.verdict == "fail" for metric in judged)
    text = f"{report.validator}: {len(judged) - failed} of {len(judged)} figures pass; "
    more = f"{'the one' if failed == 1 else f'those {failed}'} above failed, " if failed else ""
    return Text(f"{text}{more}all {len(report.metrics)} are in the report", "bold red" if failed else "green")
