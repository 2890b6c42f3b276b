"""What the validators found, on the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sbikit.cli.terminal import console

if TYPE_CHECKING:
    from rich.text import Text

    from sbikit.roles.validator import Metric, Report

_LONG = 20  # figures of a validator beyond which the terminal shows those that fail: one screen


def show_verdicts(metrics: Path, longest: int | None = _LONG) -> None:
    """A table of the figures in metrics.json.

    Args:
        metrics: the file.
        longest: of a validator with more figures those that fail are shown; None shows all.
    """
    from rich.table import Table

    from sbikit.storage.metrics import read_metrics

    colours = {"pass": "green", "fail": "bold red", "none": ""}
    reports = read_metrics(metrics)
    floors = any(metric.floor is not None for report in reports for metric in report.metrics)
    heads = ("validator", "figure", "of", "value", *(["floor"] if floors else []), "ideal", "verdict")
    table = Table(*heads, box=None, pad_edge=False)
    shown: list[Metric] = []  # validators share some figures
    for found in reports:
        for metric in _worth_showing(found, longest):
            if metric in shown:
                continue
            shown.append(metric)
            ideal = "" if metric.ideal is None else f"{metric.ideal:.4g}"
            value = f"{metric.value:.4g} ± {metric.error:.2g}"
            has_floor = metric.floor is not None and metric.floor_error is not None
            floor = f"{metric.floor:.4g} ± {metric.floor_error:.2g}" if has_floor else ""
            verdict = "" if metric.verdict == "none" else metric.verdict
            row = (found.validator, metric.name, metric.variable, value, *([floor] if floors else []))
            table.add_row(*row, ideal, verdict, style=colours[metric.verdict])
    out = console()
    out.print(table)
    for found in reports:
        if _is_long(found, longest):
            out.print(_summary(found), soft_wrap=True)


def _is_long(report: Report, longest: int | None) -> bool:
    return longest is not None and len(report.metrics) > longest


def _worth_showing(report: Report, longest: int | None) -> list[Metric]:
    """All figures of a validator, or those that fail where there are many."""
    everything = not _is_long(report, longest)
    return [metric for metric in report.metrics if everything or metric.verdict == "fail"]


def _summary(report: Report) -> Text:
    """How a validator with many figures went, on one line."""
    from rich.text import Text

    judged = [metric for metric in report.metrics if metric.verdict != "none"]
    failed = sum(metric.verdict == "fail" for metric in judged)
    text = f"{report.validator}: {len(judged) - failed} of {len(judged)} figures pass; "
    more = f"{'the one' if failed == 1 else f'those {failed}'} above failed, " if failed else ""
    return Text(f"{text}{more}all {len(report.metrics)} are in the report", "bold red" if failed else "green")
