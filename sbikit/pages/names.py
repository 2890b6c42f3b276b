"""Names of variables, figures and what they are about, as the page and its figures show them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

from markupsafe import Markup, escape

from sbikit.pages.figures.labels import field_label, math_label
from sbikit.pages.notation import latex_to_html
from sbikit.problem.spec import Spec
from sbikit.problem.variables import Field, Variable, Vector
from sbikit.roles.validator import Curve

# Most scalars whose names are listed in a table's cell and in a figure's title; of more, it says how many.
_MOST_LABELS, _MOST_TITLED = 6, 4
_MOST_NAMED = 12  # scalars whose names are all written in a sentence: of more, the first ones and the last


def name_html(variable: Variable) -> Markup:
    """A variable's name: a field's symbol, a vector's parameters, of many the first ones and the last."""
    if isinstance(variable, Field):
        return latex_to_html(variable.latex, variable.name)
    names = labels_html(variable)
    if len(names) > _MOST_NAMED:
        names = [*names[:2], Markup("…"), names[-1]]
    return Markup(", ").join(names)


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
            about = field_label(variable, part if isinstance(part, int) else None)
        elif isinstance(variable, Vector) and isinstance(part, int):
            about = math_labels([variable])[part]
        elif isinstance(variable, Vector) and part is None and len(variable.labels) <= _MOST_TITLED:
            about = ", ".join(math_labels([variable]))
    return f"{title(curve.name)}: {about}"


def _part(name: str, variable: Variable) -> int | Literal["other"] | None:
    """Which scalar of a vector ("theta.S8") or channel of a field ("map.2") is named; None: all of it."""
    owner, _, part = name.partition(".")
    if owner != variable.name:
        return "other"
    if not part:
        return None
    if isinstance(variable, Vector):
        return variable.labels.index(part) if part in variable.labels else "other"
    return int(part) - 1 if part.isdecimal() and 1 <= int(part) <= variable.channels else "other"


_CAPITALS = {"c2st": "C2ST", "kl": "KL", "w1": "W1"}  # abbreviations that are written so
_SHARE = re.compile(r"\bcoverage (\d+)$")  # of an interval, in per cent


def title(name: str) -> str:
    """The name of a figure in words: "coverage_68" is "coverage 68 %"."""
    words = " ".join(_CAPITALS.get(word, word) for word in name.split("_"))
    return _SHARE.sub("coverage \\1\u00a0%", words)


def channel_title(one: Field, channel: int) -> Markup:
    """Symbol, name and channel of a field."""
    name = name_html(one)
    if str(name) != one.name:
        name += f" ({one.name})"
    return name if one.channels == 1 else name + f", channel {channel + 1} of {one.channels}"


def short_title(one: Field, channel: int) -> Markup:
    """Symbol and channel of a field."""
    name = name_html(one)
    return name if one.channels == 1 else name + f", channel {channel + 1}"


def math_labels(vectors: Iterable[Vector]) -> list[str]:
    """Names of the vectors' scalars as matplotlib sets them."""
    return [
        math_label(latex, label)
        for vector in vectors
        for latex, label in zip(vector.latex, vector.labels, strict=True)
    ]
