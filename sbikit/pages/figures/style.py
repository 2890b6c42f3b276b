"""One style for all figures: colours, letters, and the two layouts in which each is drawn.

Posterior blue, reference orange, truth black throughout. Fields that are posterior means, draws or truths
share one colour scale; sequential maps are viridis and magma, signed ones a diverging map around zero.

A figure is drawn in two layouts: `WIDE` for screens and paper, `NARROW` for telephones, where panels are
stacked so that letters keep their size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from io import BytesIO
from typing import Any, ParamSpec, TypeVar

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_P = ParamSpec("_P")
_R = TypeVar("_R")

POSTERIOR = "#2563a8"
REFERENCE = "#d9741a"
TRUTH = "#15191f"
MUTED = "#6b7482"
GRID = "#e3e7ec"
BACKGROUND = "#ffffff"

STYLE: Any = {
    # Letters in points: 9 on paper is as large as the page's captions, ticks a step smaller.
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "mathtext.fontset": "dejavusans",
    "axes.titlesize": 9.5,
    "axes.titleweight": "normal",
    "axes.labelsize": 9.0,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 8.0,
    # Lines in points: axes are thinner than the curves that they carry.
    "axes.linewidth": 0.7,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "lines.linewidth": 1.6,
    # Colours: greys of the page.
    "axes.edgecolor": "#8a93a0",
    "axes.labelcolor": TRUTH,
    "text.color": TRUTH,
    "xtick.color": "#4c5563",
    "ytick.color": "#4c5563",
    "figure.facecolor": BACKGROUND,
    "savefig.facecolor": BACKGROUND,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "legend.frameon": False,
    "image.origin": "lower",
    "image.interpolation": "nearest",
    "text.usetex": False,
}


@dataclass(frozen=True)
class FigureLayout:
    """Width of a figure in inches, most panels in a row, and pixels an inch."""

    width: float
    columns: int
    dpi: int


# The page's text column and a telephone's screen, at 104 CSS pixels an inch (see `pictures`); as many pixels
# an inch as keep lines sharp on dense screens: more makes the page heavier.
WIDE = FigureLayout(width=9.2, columns=4, dpi=160)
NARROW = FigureLayout(width=4.1, columns=2, dpi=180)


def styled(draw: Callable[_P, _R]) -> Callable[_P, _R]:
    """Run with the report's style and leave matplotlib's settings as they were."""

    @wraps(draw)
    def inside(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with rc_context(STYLE):
            return draw(*args, **kwargs)

    return inside


@styled
def png(figure: Figure, layout: FigureLayout) -> bytes:
    """The figure as a PNG file, without a time stamp."""
    FigureCanvasAgg(figure)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=layout.dpi, metadata={"Software": None})
    return buffer.getvalue()
