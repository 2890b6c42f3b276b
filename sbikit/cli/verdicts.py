"""What the validators found, on the terminal."""

from __future__ import annotations

from pathlib import Path

from sbikit.cli.terminal import console

_LONG = 20  # as `sbikit.runs.verdicts.LONG`, which a command that prints none need not import


def show_verdicts(metrics: Path, longest: int | None = _LONG) -> None:
    """A table of the figures in metrics.json.

    Args:
        metrics: the file.
        longest: of a validator with more figures those that fail are shown; None shows all.
    """
    from sbikit.runs.verdicts import verdict_table
    from sbikit.storage.metrics import read_metrics

    table, lines = verdict_table(read_metrics(metrics), longest)
    out = console()
    out.print(table)
    for line in lines:
        out.print(line, soft_wrap=True)
