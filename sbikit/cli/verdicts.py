"""What the validators found, on the terminal."""

from __future__ import annotations

from pathlib import Path

from sbikit.cli.terminal import console


def show_verdicts(metrics: Path, *, whole: bool = False) -> None:
    """A table of the figures in metrics.json.

    Args:
        metrics: the file.
        whole: whether all are shown; else of a validator with many those that fail.
    """
    from sbikit.runs.verdicts import LONG, verdict_table
    from sbikit.storage.metrics import read_metrics

    table, lines = verdict_table(read_metrics(metrics), None if whole else LONG)
    out = console()
    out.print(table)
    for line in lines:
        out.print(line, soft_wrap=True)
