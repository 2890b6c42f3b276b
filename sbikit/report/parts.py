"""Pieces that every section of the report is made of: what was read, numbers, names and pictures."""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from markupsafe import Markup, escape
from matplotlib.figure import Figure
from numpy.typing import NDArray

from sbikit.problem.spec import Spec
from sbikit.problem.variables import Field, Variable, Vector
from sbikit.report import figures
from sbikit.report.notation import latex_to_html
from sbikit.roles.validator import Curve, Report
from sbikit.storage.posterior import PosteriorFile

_CSS_PIXELS_AN_INCH = 104

Array = NDArray[np.floating]


@dataclass(frozen=True)
class RunFiles:
    """A run folder, read.

    Args:
        run: run.yaml.
        provenance: provenance.json.
        posterior: posterior.nc.
        reports: metrics.json.
        compared: the validators among them that compared with an exact sampler.
        training: records of training.jsonl.
        unread: lines of training.jsonl that are no JSON.
    """

    run: Mapping[str, Any]
    provenance: Mapping[str, Any]
    posterior: PosteriorFile
    reports: tuple[Report, ...]
    compared: frozenset[str]
    training: tuple[Mapping[str, Any], ...]
    unread: int


# --- numbers in words ------------------------------------------------------------------------


def number(value: float, digits: int = 4) -> str:
    """A number with so many significant digits and a true minus sign."""
    text = f"{value:,.0f}" if float(value).is_integer() and abs(value) < 1e9 else f"{value:.{digits}g}"
    return text.replace("-", "−")


def _places(error: float) -> int:
    """Decimal places that show two significant digits of an error."""
    return max(0, 1 - int(np.floor(np.log10(error))))


def plus_minus(value: float, error: float) -> str:
    """`value ± error`, the error with two significant digits."""
    if error <= 0 or not np.isfinite(error):
        return f"{number(value)} ± {number(error)}"
    places = _places(error)
    if places > 6:
        return f"{value:.3g} ± {error:.2g}".replace("-", "−")
    shown = round(value, places) + 0.0  # no negative zero
    return f"{shown:,.{places}f} ± {error:,.{places}f}".replace("-", "−")


def rounded(value: float, error: float) -> str:
    """A value with the decimal places that its error deserves."""
    return plus_minus(value, error).split(" ± ")[0]


def signed(value: float, places: int = 2) -> str:
    """A number with its sign."""
    return f"{value:+.{places}f}".replace("-", "−")


def duration(seconds: float) -> str:
    """Seconds in the largest two units."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def plural(count: int, one: str, many: str = "") -> str:
    """`1 draw`, `2 draws`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


# --- pictures --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Picture:
    """A figure in its wide and its narrow layout.

    Args:
        name: file name without its ending.
        alt: what it shows, for those who do not see it.
        caption: what is drawn.
        look: what to look for.
        wide, narrow: PNG files.
    """

    name: str
    alt: str
    caption: str
    look: str
    wide: bytes
    narrow: bytes

    @property
    def wide_uri(self) -> str:
        """The wide figure as a data URI."""
        return _data_uri(self.wide)

    @property
    def narrow_uri(self) -> str:
        """The narrow figure as a data URI."""
        return _data_uri(self.narrow)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height on the page, in CSS pixels."""
        width, height = struct.unpack(">II", self.wide[16:24])
        scale = _CSS_PIXELS_AN_INCH / figures.WIDE.dpi
        return round(width * scale), round(height * scale)


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def make_picture(
    name: str, alt: str, caption: str, look: str, draw: Callable[[figures.Layout], Figure]
) -> Picture:
    wide, narrow = (figures.png(draw(layout), layout) for layout in (figures.WIDE, figures.NARROW))
    return Picture(re.sub(r"[^A-Za-z0-9_.-]+", "-", name), alt, caption, look, wide, narrow)


# --- names -----------------------------------------------------------------------------------

_MOST_LABELS = 6
_MOST_TITLED = 4


def name_html(variable: Variable) -> Markup:
    """A variable's name: a field's symbol, a vector's parameters."""
    if isinstance(variable, Field):
        return latex_to_html(variable.latex, variable.name)
    return Markup(", ").join(labels_html(variable))


def labels_html(vector: Vector) -> list[Markup]:
    """Names of a vector's scalars."""
    return [latex_to_html(latex, label) for latex, label in zip(vector.latex, vector.labels, strict=True)]


def metric_variable(name: str, spec: Spec) -> Markup:
    """What a metric is about: the symbol of a latent, a scalar or a channel, or the metric's own word.

    Long vectors are cut short.
    """
    for variable in spec.latents:
        part = _part(name, variable)
        if isinstance(part, int) and isinstance(variable, Vector):
            return labels_html(variable)[part]
        if isinstance(part, int) and isinstance(variable, Field):
            return short_title(variable, part)
        if part is None and isinstance(variable, Vector) and len(variable.labels) > _MOST_LABELS:
            first = Markup(", ").join(labels_html(variable)[:2])
            return first + f", … ({len(variable.labels)})"
        if part is None:
            return name_html(variable)
    return escape(name.replace("_", " "))


def curve_title(curve: Curve, spec: Spec) -> str:
    """What a curve shows and of what, as matplotlib sets it."""
    about = title(curve.variable)
    for variable in spec.latents:
        part = _part(curve.variable, variable)
        if isinstance(variable, Field) and part != "other":
            about = figures.field_label(variable, part if isinstance(part, int) else None)
        elif isinstance(variable, Vector) and isinstance(part, int):
            about = math_labels([variable])[part]
        elif isinstance(variable, Vector) and part is None and len(variable.labels) <= _MOST_TITLED:
            about = ", ".join(math_labels([variable]))
    return f"{title(curve.name)}: {about}"


def _part(name: str, variable: Variable) -> int | Literal["other"] | None:
    """Which scalar of a vector ("theta.S8") or channel of a field ("kappa.2") is named; None: all of it."""
    owner, _, part = name.partition(".")
    if owner != variable.name:
        return "other"
    if not part:
        return None
    if isinstance(variable, Vector):
        return variable.labels.index(part) if part in variable.labels else "other"
    return int(part) - 1 if part.isdecimal() and 1 <= int(part) <= variable.channels else "other"


_WORDS = {"c2st": "C2ST", "kl": "KL", "w1": "W1"}
_SHARE = re.compile(r"\bcoverage (\d+)$")


def title(name: str) -> str:
    """The name of a figure in words: "coverage_68" is "coverage 68 %"."""
    words = " ".join(_WORDS.get(word, word) for word in name.split("_"))
    return _SHARE.sub("coverage \\1\u00a0%", words)


def channel_title(one: Field, channel: int) -> Markup:
    name = name_html(one)
    if str(name) != one.name:
        name += f" ({one.name})"
    return name if one.channels == 1 else name + f", channel {channel + 1} of {one.channels}"


def short_title(one: Field, channel: int) -> Markup:
    name = name_html(one)
    return name if one.channels == 1 else name + f", channel {channel + 1}"


def math_labels(vectors: Iterable[Vector]) -> list[str]:
    return [
        figures.math_label(latex, label)
        for vector in vectors
        for latex, label in zip(vector.latex, vector.labels, strict=True)
    ]


def columns(vectors: Iterable[Vector], values: Mapping[str, Array]) -> Array:
    return np.concatenate([values[vector.name] for vector in vectors], axis=-1)
