"""What is written on axes: names in LaTeX, units, plain numbers on logarithmic axes."""

from __future__ import annotations

import textwrap

from matplotlib.axis import Axis
from matplotlib.mathtext import MathTextParser
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from sbikit.problem.variables import Field

_LONGEST = 32  # letters that fit on the axis of the smallest panel, about 2.5 inches


def math_label(latex: str, label: str) -> str:
    """`$latex$` if matplotlib can set it, otherwise the plain label; a name such as half_life is no LaTeX."""
    if latex == label and not set(latex) & set("\\^{}"):
        return label
    try:
        MathTextParser("agg").parse(f"${latex}$")
    except ValueError:
        return label
    return f"${latex}$"


def field_label(field: Field, channel: int | None = None) -> str:
    """The field's name, with its channel where it has several."""
    name = math_label(field.latex, field.name)
    return name if channel is None or field.channels == 1 else f"{name}, channel {channel + 1}"


def with_unit(text: str, unit: str) -> str:
    """`text [unit]`, without brackets where the unit is empty."""
    return f"{text} [{unit}]" if unit else text


def wrapped(text: str) -> str:
    """A long axis label on several lines of like length, the first break before its parenthesis."""
    if len(text) <= _LONGEST:
        return text
    parts = text.replace(" (", "\n(", 1).splitlines()
    return "\n".join(line for part in parts for line in _lines(part))


def _lines(text: str) -> list[str]:
    """As few lines as can be, none much shorter than the others."""
    fewest = len(textwrap.wrap(text, _LONGEST))
    widths = range(len(text) // fewest, _LONGEST + 1)
    return next(lines for lines in (textwrap.wrap(text, width) for width in widths) if len(lines) == fewest)


def plain_log_ticks(axis: Axis) -> None:
    """Plain numbers at 1, 2 and 5 of each decade."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
