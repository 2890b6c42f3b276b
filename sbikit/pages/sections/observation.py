"""The observation: figures of the shown data, and of the maps that summarise them."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from sbikit.pages.arrays import Array
from sbikit.pages.figures.lines import data_lines, data_points
from sbikit.pages.figures.maps import data_maps
from sbikit.pages.figures.style import FigureLayout
from sbikit.pages.names import name_html, title
from sbikit.pages.pictures import Picture, make_picture
from sbikit.problem.variables import Field, Variable, Vector
from sbikit.storage.posterior import PosteriorFile


def _unlike(one: Field) -> str:
    flaws = "jumps, gaps" if len(one.grid) == 1 else "stripes, edges"
    return f"{flaws} or outliers that the simulator does not make."


def observation(posterior: PosteriorFile) -> list[Picture]:
    """Figures of the shown data and their summaries."""
    pictures = [_observed(v, _measured(v, posterior)) for v in posterior.spec.measured]
    return pictures + [_summary(one, posterior.summaries[one.name]) for one in posterior.summarised]


def _measured(variable: Variable, posterior: PosteriorFile) -> Array:
    """Its values, NaN where they are missing."""
    values = posterior.observed[variable.name]
    for other in posterior.spec.observables:
        if other.tells == variable.name:
            return np.where(posterior.observed[other.name] > 0.0, values, np.nan)
    return values


def _observed(variable: Variable, values: Array) -> Picture:
    name, gaps = f"observation_{variable.name}", _gaps(values)
    if isinstance(variable, Vector):
        return make_picture(
            name,
            f"The observed vector {variable.name}",
            f"The observed {variable.name}.{gaps}",
            "values that the simulator does not make.",
            lambda layout: data_points(variable, values, layout),
        )
    scale = f", {variable.channels} channels on one colour scale" if variable.channels > 1 else ""
    caption = f"The observed {title(variable.name)}{scale}.{gaps}"
    return _field_data(variable, values, name, caption, _unlike(variable), signed=_around_zero(values))


def _gaps(values: Array) -> str:
    """How many of them are missing, as a sentence."""
    missing = int(np.isnan(values).sum())
    return f" Missing, and left blank: {missing:,} of {values.size:,} values." if missing else ""


def _summary(one: Variable, values: Array) -> Picture:
    name = one.name if isinstance(one, Vector) else name_html(one)
    caption = Markup("The summary {}, computed from the data alone.").format(name)
    if isinstance(one, Vector):
        return make_picture(
            f"summary_{one.name}",
            f"The summary {one.name}",
            caption,
            "values that the simulator does not make.",
            lambda layout: data_points(one, values, layout),
        )
    look = "structure that the posterior mean should sharpen, and noise that it should suppress."
    return _field_data(
        one, values, f"summary_{one.name}", caption, look if one.estimates else _unlike(one), signed=False
    )


def _around_zero(values: Array) -> bool:
    """Whether values of both signs scatter around zero more than they are displaced from it."""
    seen = values[np.isfinite(values)]
    return bool(seen.size and seen.min() < 0 < seen.max() and abs(seen.mean()) < 0.5 * seen.std())


def _field_data(one: Field, values: Array, name: str, caption: str, look: str, *, signed: bool) -> Picture:
    middle = " Of three axes, the middle slice is shown." if len(one.grid) == 3 else ""

    def draw(layout: FigureLayout) -> Figure:
        if len(one.grid) == 1:
            return data_lines(one, values, layout)
        return data_maps(one, values, layout, signed=signed)

    return make_picture(name, f"{title(one.name)} of the shown observation", caption + middle, look, draw)
