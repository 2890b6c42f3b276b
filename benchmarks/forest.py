"""A picture of the table of calibration: `python benchmarks/forest.py OUT.png NAME=FILE[,FILE] [NAME=...]`.

NAME is a preset, each FILE what `calibration.py` printed of it, JSON lines. Every figure is shown less what
it is for an exact posterior, with its standard error, in units of its goal: within the band it is reached. A
row shows the figures of one kind, of all parameters or bins; of figures that several of a preset's files
have, those of the first are shown.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = {"quick": "#0072b2", "standard": "#d55e00", "paper": "#009e73"}
_EDGE = 3.0  # goals to either side; what lies further is drawn at the edge, as an arrow
_SPREAD, _BETWEEN = 0.6, 0.05  # of a row's height: all its figures, and two that are neighbours at most


@dataclass(frozen=True)
class Kind:
    """Figures of one kind.

    Args:
        label: what the row is called.
        names: the figures' names, as a regular expression.
        goals: how far each may be from its ideal value, for the presets in the order of `COLOURS`.
    """

    label: str
    names: str
    goals: tuple[float, float, float]


# The goals of docs/results/index.md. That of MIRA is twice the standard error of 500 observations; ranks have
# no goal of size, and are shown in units of a tenth.
OF_TRUTHS = (
    Kind("MIRA: parameters, map, both", "mira of (theta|kappa|joint)", (0.0067,) * 3),
    Kind("ranks of parameters, spread", "rank_spread of theta.*", (0.1,) * 3),
    Kind("ranks of the map's log variance, shift", "rank_shift_of_log_variance of kappa.*", (0.1,) * 3),
    Kind("ranks of the map's log variance, spread", "rank_spread_of_log_variance of kappa.*", (0.1,) * 3),
    Kind("ranks of the map's power, spread", r"rank_spread_of_band_power_\d of kappa.*", (0.1,) * 3),
    Kind("pixels in 68 % intervals", "coverage_68 of kappa.*", (0.005, 0.01, 0.01)),
    Kind("power of maps", "power of draws of kappa.*", (0.01, 0.02, 0.02)),
)
OF_EXACT = (
    Kind("means of parameters, offset beyond the floor", "offset of the mean of theta.*", (0.1, 0.12, 0.15)),
    Kind("means of parameters, bias", "mean_shift of theta.*", (0.03, 0.05, 0.05)),
    Kind("widths of parameters, ratio", "sd_ratio of theta.*", (0.03, 0.04, 0.05)),
    Kind("parameters, C2ST", "c2st of theta", (0.03, 0.05, 0.05)),
    Kind("variance of pixels, ratio", "pixel_variance_ratio of kappa.*", (0.01, 0.02, 0.02)),
    Kind("power of maps, ratio", "band_power_ratio_.* of kappa.*", (0.01, 0.02, 0.02)),
    Kind("one-point quantiles, shift", "shift of the .* quantile of kappa.*", (0.05, 0.1, 0.1)),
    Kind("parameters with the map, correlations, rms", r"rms of these \d+ correlations", (0.02, 0.04, 0.04)),
)
_AGAINST = "against hmc: "

Record = dict[str, Any]


def figures(records: Sequence[Record], kind: Kind, prefix: str) -> list[Record]:
    """Those of a kind that have an ideal value, the first of each name."""
    wanted = re.compile(re.escape(prefix) + kind.names)
    found: dict[str, Record] = {}
    for one in records:
        if wanted.fullmatch(one["name"]) and one.get("ideal") is not None:
            found.setdefault(one["name"], one)
    return list(found.values())


def read(words: Sequence[str]) -> Iterator[tuple[str, list[Record]]]:
    """Preset and records, of each NAME=FILE[,FILE].

    Raises:
        ValueError: a word is not such, or a file holds something else.
    """
    for word in words:
        name, _, files = word.partition("=")
        if name not in COLOURS or not files:
            raise ValueError(f"expected NAME=FILE[,FILE] with NAME one of {', '.join(COLOURS)}, got {word!r}")
        lines = [line for file in files.split(",") for line in Path(file).read_text().splitlines()]
        yield name, [json.loads(line) for line in lines]


def draw(axes: Axes, title: str, kinds: Sequence[Kind], prefix: str, sets: dict[str, list[Record]]) -> None:
    """One panel: a row a kind, a colour a preset."""
    axes.axvspan(-1.0, 1.0, color="0.92", zorder=0)
    axes.axvline(0.0, color="0.5", lw=0.8, zorder=1)
    for row, kind in enumerate(kinds):
        shown = [(name, one) for name, records in sets.items() for one in figures(records, kind, prefix)]
        step = min(_BETWEEN, _SPREAD / max(1, len(shown) - 1))
        for place, (name, one) in enumerate(shown):
            y = row + step * (place - 0.5 * (len(shown) - 1))
            goal = kind.goals[list(COLOURS).index(name)]
            _mark(axes, y, (one["value"] - one["ideal"]) / goal, (one["error"] or 0.0) / goal, COLOURS[name])
    axes.set_yticks(range(len(kinds)), [kind.label for kind in kinds])
    axes.set_ylim(len(kinds) - 0.4, -0.6)
    axes.set_xlim(-_EDGE, _EDGE)
    axes.set_xlabel("off the ideal value, in goals")
    axes.set_title(title, loc="left", fontsize=10)
    axes.tick_params(axis="y", length=0)
    axes.spines[["left", "right", "top"]].set_visible(False)


def _mark(axes: Axes, y: float, value: float, error: float, colour: str) -> None:
    if abs(value) > _EDGE:
        side = _EDGE if value > 0.0 else -_EDGE
        axes.plot(side, y, ">" if value > 0.0 else "<", color=colour, ms=5, clip_on=False)
        return
    axes.errorbar(value, y, xerr=error, fmt="o", color=colour, ms=3, lw=1.0, zorder=2)


def picture(sets: dict[str, list[Record]]) -> Figure:
    """Both panels."""
    figure = Figure(figsize=(11.0, 4.2), layout="constrained")
    truths, exact = figure.subplots(1, 2)
    draw(truths, "beside truths", OF_TRUTHS, "", sets)
    draw(exact, "beside exact posteriors by hmc", OF_EXACT, _AGAINST, sets)
    marks = [truths.plot([], [], "o", color=COLOURS[name], ms=4, label=name)[0] for name in sets]
    figure.legend(handles=marks, loc="outside upper right", ncols=len(marks), frameon=False)
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw what the files hold."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("out", type=Path)
    words.add_argument("records", nargs="+", metavar="NAME=FILE[,FILE]")
    given = words.parse_args(arguments)
    try:
        sets = dict(read(given.records))
    except (OSError, ValueError) as error:
        words.error(str(error))
    picture(sets).savefig(given.out, dpi=110)


if __name__ == "__main__":
    main()
