"""The figures of a report, one style for all, drawn on matplotlib's object interface (Agg).

Posterior blue, reference orange, truth black throughout. Fields that are posterior means, draws or truths
share one colour scale; sequential maps are viridis and magma, signed ones a diverging map around zero.

A figure is drawn in two layouts: `WIDE` for screens and paper, `NARROW` for telephones, where panels are
stacked so that letters keep their size.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from io import BytesIO
from typing import Any, ParamSpec, TypeVar

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.mathtext import MathTextParser
from matplotlib.ticker import AutoMinorLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from sbikit.fields.moments import histogram
from sbikit.fields.spectra import correlation, power_spectrum
from sbikit.problem.variables import Field, Vector
from sbikit.report.recovery import ErrorByWidth
from sbikit.roles.validator import Curve

Array = NDArray[np.floating]
_P = ParamSpec("_P")
_R = TypeVar("_R")

POSTERIOR = "#2563a8"
REFERENCE = "#d9741a"
TRUTH = "#15191f"
MUTED = "#6b7482"
GRID = "#e3e7ec"
BACKGROUND = "#ffffff"
_LONGEST = 32  # letters of an axis label on one line

STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "mathtext.fontset": "dejavusans",
    "axes.titlesize": 9.5,
    "axes.titleweight": "normal",
    "axes.labelsize": 9.0,
    "axes.edgecolor": "#8a93a0",
    "axes.linewidth": 0.7,
    "axes.labelcolor": TRUTH,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "text.color": TRUTH,
    "xtick.color": "#4c5563",
    "ytick.color": "#4c5563",
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "legend.fontsize": 8.0,
    "legend.frameon": False,
    "figure.facecolor": BACKGROUND,
    "savefig.facecolor": BACKGROUND,
    "lines.linewidth": 1.6,
    "image.origin": "lower",
    "image.interpolation": "nearest",
    "text.usetex": False,
}


@dataclass(frozen=True)
class Layout:
    """Width of a figure in inches, most panels in a row, and pixels an inch."""

    width: float
    columns: int
    dpi: int


WIDE = Layout(width=9.2, columns=4, dpi=160)
NARROW = Layout(width=4.1, columns=2, dpi=180)


def styled(draw: Callable[_P, _R]) -> Callable[_P, _R]:
    """Run with the report's style and leave matplotlib's settings as they were."""

    @wraps(draw)
    def inside(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with rc_context(STYLE):
            return draw(*args, **kwargs)

    return inside


@styled
def png(figure: Figure, layout: Layout) -> bytes:
    """The figure as a PNG file, without a time stamp."""
    FigureCanvasAgg(figure)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=layout.dpi, metadata={"Software": None})
    return buffer.getvalue()


def math_label(latex: str, label: str) -> str:
    """`$latex$` if matplotlib can set it, otherwise the plain label; a name such as kappa_ks is no LaTeX."""
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


def _with_unit(text: str, unit: str) -> str:
    return f"{text} [{unit}]" if unit else text


def _middle(values: Array) -> Array:
    """A 3-D field's middle slice along its first axis; other fields as they are."""
    return values[values.shape[0] // 2] if values.ndim == 3 else values


def _tidy(axes: Axes, *, grid: bool = True) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if grid:
        axes.grid(color=GRID, linewidth=0.6)


def _panels(
    count: int, layout: Layout, *, height: float, columns: int | None = None, widest: float = 9.2
) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels, each `height` times as high as wide and at most `widest` inches wide."""
    wanted = min(columns or layout.columns, layout.columns, count)
    rows = math.ceil(count / wanted)
    wanted = math.ceil(count / rows)
    width = min(layout.width / wanted, widest)
    size = (width * wanted, width * height * rows)
    engine = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06, wspace=0.03, hspace=0.05)
    figure = Figure(figsize=size, layout=engine)
    made = [figure.add_subplot(rows, wanted, i + 1) for i in range(count)]
    return figure, made


@dataclass(frozen=True)
class ShownField:
    """One channel of a latent field for the shown observation.

    Args:
        field: the field.
        channel: which channel the arrays are.
        draws: (n, *grid), n at least 2.
        truth: (*grid), if known.
        reference: draws of an exact sampler (m, *grid), if any.
        summary: (*grid), a map that estimates the same field from the data alone, if any.
    """

    field: Field
    channel: int
    draws: Array
    truth: Array | None = None
    reference: Array | None = None
    summary: Array | None = None


# --- maps -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Map:
    """One map: its title, pixels, colour map and the range of its scale."""

    title: str
    values: Array
    colours: str
    low: float
    high: float
    unit: str = ""


def _robust_range(*values: Array) -> tuple[float, float]:
    """The 0.3 % and 99.7 % quantiles of all pixels together."""
    low, high = np.quantile(np.concatenate([v.ravel() for v in values]), [0.003, 0.997])
    return (float(low), float(high)) if high > low else (float(low) - 0.5, float(low) + 0.5)


def _symmetric(*values: Array) -> tuple[float, float]:
    low, high = _robust_range(*values)
    size = max(abs(low), abs(high))
    return -size, size


def _grid_extent(field: Field) -> tuple[tuple[float, float, float, float], tuple[int, int]]:
    """Extent of a map for imshow, and which grid axes are its vertical and horizontal one."""
    vertical, horizontal = len(field.grid) - 2, len(field.grid) - 1
    return (0.0, field.extent[horizontal], 0.0, field.extent[vertical]), (vertical, horizontal)


def _draw_map(figure: Figure, axes: Axes, one: _Map, field: Field, *, left: bool, bottom: bool) -> None:
    extent, _ = _grid_extent(field)
    image = axes.imshow(
        one.values,
        cmap=one.colours,
        vmin=one.low,
        vmax=one.high,
        extent=extent,
        origin="lower",
        interpolation="nearest",
    )
    axes.set_title(one.title)
    unit = f"[{field.extent_unit}]"
    axes.set_xlabel(f"$x$ {unit}" if bottom else "")
    axes.set_ylabel(f"$y$ {unit}" if left else "")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(4, integer=False))
    axes.tick_params(labelbottom=bottom, labelleft=left, length=2.5)
    bar = figure.colorbar(image, ax=axes, location="bottom", fraction=0.05, pad=0.03, aspect=22)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7.5, length=2)
    bar.locator = MaxNLocator(4)
    bar.update_ticks()
    if one.unit:
        bar.set_label(one.unit, fontsize=7.5)


def _draw_maps(maps: Sequence[_Map], field: Field, layout: Layout) -> Figure:
    _, (vertical, horizontal) = _grid_extent(field)
    shape = field.extent[vertical] / field.extent[horizontal]
    across = math.ceil(len(maps) / math.ceil(len(maps) / min(layout.columns, len(maps))))
    width = min(layout.width / across, 3.1)
    ragged = 0.35 if len(maps) % across else 0.0  # an x label between two rows
    height = (width - 0.5) * min(max(shape, 0.3), 3.0) + 0.95 + ragged
    figure, panels = _panels(len(maps), layout, height=height / width, widest=width)
    for i, (axes, one) in enumerate(zip(panels, maps, strict=True)):
        _draw_map(figure, axes, one, field, left=i % across == 0, bottom=i + across >= len(maps))
    return figure


@styled
def field_maps(shown: ShownField, layout: Layout) -> Figure:
    """Truth, mean, standard deviation, residual or signal-to-noise, three draws, direct inversion.

    The field has two axes or three; of three, the middle slice is drawn.
    """
    field, unit = shown.field, shown.field.unit
    mean, sd = _middle(shown.draws.mean(0)), _middle(shown.draws.std(0, ddof=1))
    draws = [_middle(draw) for draw in shown.draws[:3]]
    known = [] if shown.truth is None else [_middle(shown.truth)]
    low, high = _robust_range(mean, *draws, *known)
    safe = np.maximum(sd, np.finfo(np.float32).tiny)
    maps = [_Map("truth", one, "viridis", low, high, unit) for one in known]
    maps.append(_Map("posterior mean", mean, "viridis", low, high, unit))
    maps.append(_Map("posterior sd", sd, "magma", *_robust_range(sd), unit))
    if known:
        maps.append(_Map("(mean − truth) / sd", (mean - known[0]) / safe, "coolwarm", -3.0, 3.0))
    else:
        maps.append(_Map("mean / sd", mean / safe, "coolwarm", *_symmetric(mean / safe)))
    maps += [_Map(f"draw {i + 1}", one, "viridis", low, high, unit) for i, one in enumerate(draws)]
    if shown.summary is not None:
        summary = _middle(shown.summary)
        maps.append(_Map("direct inversion*", summary, "viridis", *_robust_range(summary), unit))
    return _draw_maps(maps, field, layout)


@styled
def data_maps(fields: Sequence[tuple[Field, Array]], layout: Layout, *, signed: bool) -> Figure:
    """Every channel of fields on one grid; the channels of one field share a scale.

    Args:
        fields: fields with their values (C, *grid), of two or three axes.
        signed: whether colours diverge from zero.
    """
    maps = []
    for field, values in fields:
        scale = _symmetric(values) if signed else _robust_range(values)
        for channel in range(field.channels):
            name = math_label(field.latex, field.name)
            if field.channels > 1:
                name = f"{name}, channel {channel + 1} of {field.channels}"
            colours = "coolwarm" if signed else "viridis"
            maps.append(_Map(name, _middle(values[channel]), colours, *scale, field.unit))
    return _draw_maps(maps, fields[0][0], layout)


# --- lines ----------------------------------------------------------------------------------


def _positions(field: Field) -> Array:
    return np.asarray((np.arange(field.grid[0]) + 0.5) * field.extent[0] / field.grid[0])


@styled
def field_line(shown: ShownField, layout: Layout) -> Figure:
    """A field of one axis: mean with bands of 68 % and 95 %, three draws, truth, direct inversion."""
    field, draws, x = shown.field, shown.draws, _positions(shown.field)
    figure, (axes,) = _panels(1, layout, height=0.38 if layout is WIDE else 0.8)
    _band(axes, x, draws, POSTERIOR)
    for i, draw in enumerate(draws[:3]):
        axes.plot(x, draw, color=POSTERIOR, linewidth=0.7, alpha=0.6, label="_" if i else "draws")
    axes.plot(x, draws.mean(0), color=POSTERIOR, label="posterior mean")
    if shown.summary is not None:
        axes.plot(x, shown.summary, ".", color=MUTED, markersize=3, label="direct inversion")
    if shown.truth is not None:
        axes.plot(x, shown.truth, color=TRUTH, linestyle="--", linewidth=1.2, label="truth")
    axes.set_xlabel(f"$x$ [{field.extent_unit}]")
    axes.set_ylabel(_with_unit(field_label(field, shown.channel), field.unit))
    axes.set_xlim(0, field.extent[0])
    axes.legend(ncols=4 if layout is WIDE else 2, loc="best")
    _tidy(axes)
    return figure


@styled
def data_lines(field: Field, values: Array, layout: Layout) -> Figure:
    """Every channel of a field of one axis, values (C, n)."""
    figure, panels = _panels(field.channels, layout, height=0.5, columns=1 if layout is NARROW else 2)
    for channel, axes in enumerate(panels):
        axes.plot(_positions(field), values[channel], color=TRUTH, linewidth=1.0)
        axes.set_xlabel(f"$x$ [{field.extent_unit}]")
        axes.set_ylabel(_with_unit(field_label(field, channel), field.unit))
        _tidy(axes)
    return figure


@styled
def data_points(vector: Vector, values: Array, layout: Layout) -> Figure:
    """An observed vector, values (D,)."""
    figure, (axes,) = _panels(1, layout, height=0.36 if layout is WIDE else 0.7)
    axes.plot(np.arange(len(values)), values, "o", color=TRUTH, markersize=4)
    few = len(values) <= (16 if layout is WIDE else 6)
    if few:
        names = [math_label(t, p) for t, p in zip(vector.latex, vector.labels, strict=True)]
        axes.set_xticks(np.arange(len(values)), names)
    axes.set_xlabel("" if few else "entry")
    axes.set_ylabel(_with_unit(vector.name, vector.units[0] if len(set(vector.units)) == 1 else ""))
    _tidy(axes)
    return figure


def _band(axes: Axes, x: Array, rows: Array, colour: str) -> None:
    """68 % and 95 % bands of rows (n, K)."""
    for low, high, alpha in ((0.025, 0.975, 0.16), (0.16, 0.84, 0.28)):
        axes.fill_between(
            x, *np.quantile(rows, [low, high], axis=0), color=colour, alpha=alpha, linewidth=0, zorder=1
        )


# --- parameters -----------------------------------------------------------------------------


@styled
def corner_plot(
    labels: Sequence[str], draws: Array, truth: Array | None, reference: Array | None, layout: Layout
) -> Figure:
    """Marginals of parameters: 68 % and 95 % regions.

    Args:
        labels: D names as matplotlib sets them.
        draws: (n, D), n > D, no column constant.
        truth: (D,), if known.
        reference: (m, D), if any.
    """
    import corner

    count = len(labels)
    side = min(layout.width, 1.2 + (1.95 if layout is WIDE else 1.4) * count)
    figure = Figure(figsize=(side, side))
    figure.subplots(count, count, squeeze=False)
    sets = [draws] if reference is None else [reference, draws]
    for rows, colour in zip(sets, [REFERENCE, POSTERIOR][-len(sets) :], strict=True):
        corner.corner(
            rows.astype(np.float64),
            fig=figure,
            labels=list(labels),
            range=_ranges(sets, truth),
            bins=_bins(rows),
            smooth=1.2,
            smooth1d=1.0,
            levels=(0.68, 0.95),
            color=colour,
            plot_datapoints=False,
            plot_density=False,
            fill_contours=False,
            no_fill_contours=True,
            contour_kwargs={"linewidths": 1.4},
            weights=np.full(len(rows), _bins(rows) / len(rows)),
            hist_kwargs={"linewidth": 1.5},
            max_n_ticks=4,
            labelpad=-0.1 if layout is WIDE else -0.02,
            label_kwargs={"fontsize": 10},
        )
    _finish_corner(figure, np.array(figure.axes).reshape(count, count), sets, truth)
    return figure


def _bins(rows: Array) -> int:
    return int(np.clip(1.1 * math.sqrt(len(rows)), 12, 30))


def _ranges(sets: Sequence[Array], truth: Array | None) -> list[tuple[float, float]]:
    """For each parameter, the inner 99.6 % of every set and the truth, with a margin."""
    rows = [np.quantile(one, [0.002, 0.998], axis=0) for one in sets]
    if truth is not None:
        rows.append(np.stack([truth, truth]))
    low, high = np.min([r[0] for r in rows], axis=0), np.max([r[1] for r in rows], axis=0)
    margin = 0.2 * (high - low)
    return [(float(a), float(b)) for a, b in zip(low - margin, high + margin, strict=True)]


def _finish_corner(figure: Figure, grid: NDArray[Any], sets: Sequence[Array], truth: Array | None) -> None:
    count = len(grid)
    for i in range(count):
        top = max(float(line.get_ydata().max()) for line in _outlines(grid[i, i]))
        grid[i, i].set_ylim(0, 1.12 * top)
        for j in range(i + 1):
            axes = grid[i, j]
            axes.tick_params(labelsize=7.5, direction="in", length=3)
            if truth is not None:
                axes.axvline(truth[j], color=TRUTH, linewidth=1.0, linestyle="--")
            if truth is not None and i != j:
                axes.axhline(truth[i], color=TRUTH, linewidth=1.0, linestyle="--")
    handles = [Line2D([], [], color=POSTERIOR, label="posterior")]
    if len(sets) > 1:
        handles.append(Line2D([], [], color=REFERENCE, label="reference sampler"))
    if truth is not None:
        handles.append(Line2D([], [], color=TRUTH, linewidth=1.0, linestyle="--", label="truth"))
    single = count == 1
    figure.legend(
        handles=handles,
        loc="lower center" if single else "upper right",
        bbox_to_anchor=(0.55, 0.93) if single else (0.97, 0.96),
        ncols=len(handles) if single else 1,
        fontsize=9,
        columnspacing=1.0,
    )


class _Outline:
    """The upper edge of a histogram, whatever artist drew it."""

    def __init__(self, heights: Array) -> None:
        self._heights = heights

    def get_ydata(self) -> Array:
        return self._heights


def _outlines(axes: Axes) -> list[_Outline]:
    lines = [_Outline(np.asarray(line.get_ydata(), float)) for line in axes.lines]
    steps = [_Outline(np.asarray(patch.get_path().vertices)[:, 1]) for patch in axes.patches]
    return [one for one in (*lines, *steps) if len(one.get_ydata()) > 2]


@styled
def recovery_plot(
    labels: Sequence[str], units: Sequence[str], truth: Array, draws: Array, layout: Layout
) -> Figure:
    """Posterior mean and standard deviation against truth for held-out observations.

    Args:
        labels: D names as matplotlib sets them.
        units: D units.
        truth: (B, D).
        draws: (n, B, D).
    """
    columns = 3 if layout is WIDE else 1
    figure, panels = _panels(len(labels), layout, height=0.92, columns=columns, widest=4.1)
    mean, sd = draws.mean(0), draws.std(0, ddof=1)
    for i, (axes, label, unit) in enumerate(zip(panels, labels, units, strict=True)):
        _identity(axes, np.concatenate([truth[:, i], mean[:, i]]))
        axes.errorbar(
            truth[:, i],
            mean[:, i],
            sd[:, i],
            fmt="o",
            color=POSTERIOR,
            ecolor="#8fb1d6",
            elinewidth=0.8,
            markersize=3,
            zorder=3,
        )
        axes.set_xlabel(_with_unit(f"true {label}", unit))
        axes.set_ylabel(_with_unit(f"inferred {label}", unit))
        _tidy(axes)
    return figure


def _identity(axes: Axes, values: Array, *, square: bool = False) -> None:
    low, high = float(values.min()), float(values.max())
    margin = 0.06 * (high - low) or 0.5
    ends = (low - margin, high + margin)
    axes.plot(ends, ends, color=TRUTH, linestyle="--", linewidth=1.0, zorder=2)
    axes.set_xlim(*ends)
    if square:
        axes.set_ylim(*ends)


@styled
def error_plot(
    titles: Sequence[str], units: Sequence[str], found: Sequence[ErrorByWidth], layout: Layout
) -> Figure:
    """Actual error of the posterior mean against the error that the draws claim, a panel a field channel."""
    columns = 3 if layout is WIDE else 1
    figure, panels = _panels(len(found), layout, height=0.9, columns=columns, widest=4.1)
    for axes, title, unit, one in zip(panels, titles, units, found, strict=True):
        _identity(axes, np.concatenate([0.85 * one.claimed, 1.15 * one.claimed, one.actual]), square=True)
        axes.errorbar(one.claimed, one.actual, one.error, fmt="o", color=POSTERIOR, markersize=4, capsize=2)
        axes.set_title(title)
        axes.set_xlabel(_with_unit("posterior sd", unit))
        axes.set_ylabel(_with_unit("rms error of the mean", unit))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        _tidy(axes)
    return figure


# --- statistics of fields -------------------------------------------------------------------

_TO_RADIANS = {"deg": math.pi / 180, "arcmin": math.pi / 180 / 60, "rad": 1.0}


@styled
def field_statistics(shown: ShownField, layout: Layout) -> Figure:
    """Power spectrum, its ratio to the truth, correlation with the truth, one-point distribution.

    Spectra are in multipoles where the field is a map of the sky.
    """
    field, truth = shown.field, shown.truth
    sets = {"posterior": (shown.draws, POSTERIOR)}
    if shown.reference is not None:
        sets["reference"] = (shown.reference, REFERENCE)
    wanted = [_power_panel, _ratio_panel, _correlation_panel, _one_point_panel]
    if truth is None:
        wanted = [_power_panel, _one_point_panel]
    height, columns = (0.62, 2) if layout is WIDE else (0.75, 1)
    figure, panels = _panels(len(wanted), layout, height=height, columns=columns)
    for axes, fill in zip(panels, wanted, strict=True):
        fill(axes, field, sets, truth)
        _tidy(axes)
    panels[0].legend(handles=_set_handles(sets, truth), loc="lower left")
    panels[-1].set_xlabel(_with_unit(field_label(field, shown.channel), field.unit))
    return figure


_LEGEND = {"posterior": "posterior: median, 68 %, 95 %", "reference": "reference: median, 68 %"}


def _set_handles(sets: Mapping[str, tuple[Array, str]], truth: Array | None) -> list[Line2D]:
    handles = [Line2D([], [], color=colour, label=_LEGEND[name]) for name, (_, colour) in sets.items()]
    if truth is not None:
        handles.append(Line2D([], [], color=TRUTH, linestyle="--", linewidth=1.2, label="truth"))
    return handles


def _wave_numbers(field: Field, k: Array) -> tuple[Array, str, float, str]:
    """Abscissa and its label, factor of the power and its label."""
    radians = _TO_RADIANS.get(field.extent_unit)
    if radians is not None and len(field.grid) == 2:
        unit = f"{field.unit}$^2$ sr" if field.unit else "sr"
        return k / radians, r"multipole $\ell$", radians**2, rf"$C_\ell$ [{unit}]"
    power = "" if len(field.grid) == 1 else f"$^{len(field.grid)}$"
    unit = (
        f"{field.unit}$^2$ {field.extent_unit}{power}".strip()
        if field.unit
        else f"{field.extent_unit}{power}"
    )
    return k, f"$k$ [rad/{field.extent_unit}]", 1.0, f"$P(k)$ [{unit}]"


def _spectrum_bins(field: Field) -> int:
    """Few enough bins for each to hold several modes."""
    return max(1, min(max(field.grid) // 2, 10 if len(field.grid) == 1 else 20))


def _curve_with_bands(axes: Axes, x: Array, rows: Array, colour: str) -> None:
    """Median of rows (n, K) with bands; of the reference only the outline of 68 %, so that both are seen."""
    if colour == REFERENCE:
        for edge in np.quantile(rows, [0.16, 0.84], axis=0):
            axes.plot(x, edge, color=colour, lw=0.9)
    else:
        _band(axes, x, rows, colour)
    axes.plot(x, np.median(rows, axis=0), color=colour)


_PLAIN = FuncFormatter(lambda value, _: f"{value:g}")


def _log_multipoles(axes: Axes) -> None:
    """A logarithmic abscissa with plain numbers at 1, 2 and 5."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(_PLAIN)
    axes.xaxis.set_minor_formatter(NullFormatter())


def _power_panel(
    axes: Axes, field: Field, sets: Mapping[str, tuple[Array, str]], truth: Array | None
) -> None:
    for rows, colour in tuple(sets.values())[::-1]:
        spectrum = power_spectrum(rows, field.extent, bins=_spectrum_bins(field))
        x, x_label, factor, y_label = _wave_numbers(field, spectrum.k)
        _curve_with_bands(axes, x, factor * spectrum.power, colour)
    if truth is not None:
        axes.plot(
            x,
            factor * power_spectrum(truth, field.extent, bins=_spectrum_bins(field)).power,
            color=TRUTH,
            ls="--",
            lw=1.2,
        )
    axes.set(yscale="log", xlabel=x_label, ylabel=y_label, title="power spectrum")
    _log_multipoles(axes)


def _ratio_panel(
    axes: Axes, field: Field, sets: Mapping[str, tuple[Array, str]], truth: Array | None
) -> None:
    if truth is None:
        return
    true = power_spectrum(truth, field.extent, bins=_spectrum_bins(field)).power
    safe = np.where(true > 0, true, np.inf)
    tops = [1.0]
    for rows, colour in tuple(sets.values())[::-1]:
        spectrum = power_spectrum(rows, field.extent, bins=_spectrum_bins(field))
        x, x_label, *_ = _wave_numbers(field, spectrum.k)
        _curve_with_bands(axes, x, spectrum.power / safe, colour)
        tops.append(float(np.quantile(np.quantile(spectrum.power / safe, 0.975, axis=0), 0.9)))
    axes.set_ylim(0.0, 1.15 * min(max(*tops, 1.3), 5.0))
    axes.axhline(1.0, color=TRUTH, ls="--", lw=1.2)
    axes.set(xlabel=x_label, ylabel="power / power of the truth", title="ratio to the truth")
    _log_multipoles(axes)


def _correlation_panel(
    axes: Axes, field: Field, sets: Mapping[str, tuple[Array, str]], truth: Array | None
) -> None:
    if truth is None:
        return
    for rows, colour in tuple(sets.values())[::-1]:
        found = correlation(rows, truth, field.extent, bins=_spectrum_bins(field))
        x, x_label, *_ = _wave_numbers(field, found.k)
        _curve_with_bands(axes, x, found.power, colour)
        of_mean = correlation(rows.mean(0), truth, field.extent, bins=_spectrum_bins(field)).power
        axes.plot(x, of_mean, color=colour, lw=1.0, ls=":")
    axes.axhline(0.0, color=MUTED, lw=0.8)
    axes.set(ylim=(-0.35, 1.05), xlabel=x_label, ylabel="correlation coefficient")
    _log_multipoles(axes)
    axes.set_title("correlation with the truth (dotted: posterior mean)")


def _one_point_panel(
    axes: Axes, field: Field, sets: Mapping[str, tuple[Array, str]], truth: Array | None
) -> None:
    pooled = [rows for rows, _ in sets.values()] + ([] if truth is None else [truth])
    low = min(float(np.quantile(one, 0.0005)) for one in pooled)
    high = max(float(np.quantile(one, 0.9995)) for one in pooled)
    pad = 0.05 * (high - low) or 0.5
    edges = np.linspace(low - pad, high + pad, 33)
    centres = 0.5 * (edges[1:] + edges[:-1])
    for rows, colour in tuple(sets.values())[::-1]:
        _curve_with_bands(axes, centres, histogram(rows, edges, axes=len(field.grid)), colour)
    if truth is not None:
        axes.stairs(histogram(truth, edges, axes=len(field.grid)), edges, color=TRUTH, ls="--", lw=1.2)
    axes.set(ylabel="density of pixels", title="one-point distribution", ylim=(0, None))


# --- calibration and training ---------------------------------------------------------------


@styled
def calibration_curves(curves: Sequence[Curve], titles: Sequence[str], layout: Layout) -> Figure:
    """Every curve with its band and its ideal."""
    columns = 3 if layout is WIDE else 1
    figure, panels = _panels(len(curves), layout, height=0.88, columns=columns, widest=4.1)
    for axes, curve, title in zip(panels, curves, titles, strict=True):
        axes.plot(curve.x, curve.ideal, color=TRUTH, ls="--", lw=1.1, label="ideal")
        axes.fill_between(curve.x, curve.low, curve.high, color=POSTERIOR, alpha=0.22, lw=0)
        axes.plot(curve.x, curve.y, color=POSTERIOR, label="measured")
        axes.set(xlabel=_wrapped(curve.x_label), ylabel=_wrapped(curve.y_label), title=title)
        axes.xaxis.set_minor_locator(AutoMinorLocator(2))
        _tidy(axes)
    panels[0].legend(loc="best")
    return figure


def _wrapped(text: str) -> str:
    """A long axis label on several lines, the first break before its parenthesis."""
    if len(text) <= _LONGEST:
        return text
    parts = text.replace(" (", "\n(", 1).splitlines()
    return "\n".join(line for part in parts for line in textwrap.wrap(part, _LONGEST))


@styled
def training_plot(
    x: Array, x_label: str, curves: Mapping[str, tuple[Array, Array]], layout: Layout
) -> Figure:
    """Losses during training.

    Args:
        x: unit of the abscissa's end, only its last value is used for the axis.
        x_label: what the abscissa is.
        curves: name -> (abscissa, loss); "loss" is also shown smoothed.
    """
    figure, (axes,) = _panels(1, layout, height=0.4 if layout is WIDE else 0.75)
    palette = [POSTERIOR, REFERENCE, "#3b8a5a", "#8a4fa3", "#9a7b1f"]
    for i, (name, (at, values)) in enumerate(curves.items()):
        colour = palette[i % len(palette)]
        smooth = _running_mean(values)
        axes.plot(at, values, color=colour, alpha=0.3 if smooth is not None else 1.0, lw=1.0)
        axes.plot(at, values if smooth is None else smooth, color=colour, label=name.replace("_", " "))
    positive = all(values.min() > 0 for _, values in curves.values())
    spread = max(float(values.max() / values.min()) for _, values in curves.values()) if positive else 1.0
    axes.set(xlabel=x_label, ylabel="loss", xlim=(float(x[0]), float(x[-1])))
    if spread > 4:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(_PLAIN)
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_locator(MaxNLocator(8 if layout is WIDE else 4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.legend(loc="upper right")
    _tidy(axes)
    return figure


def _running_mean(values: Array) -> Array | None:
    """Mean over a twentieth of the record on either side; None where it is too short to need one."""
    half = len(values) // 40
    if half < 1:
        return None
    total = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    start = np.maximum(np.arange(len(values)) - half, 0)
    stop = np.minimum(np.arange(len(values)) + half + 1, len(values))
    return np.asarray((total[stop] - total[start]) / (stop - start))


__all__ = [
    "NARROW",
    "WIDE",
    "Layout",
    "ShownField",
    "calibration_curves",
    "corner_plot",
    "data_lines",
    "data_maps",
    "data_points",
    "error_plot",
    "field_label",
    "field_line",
    "field_maps",
    "field_statistics",
    "math_label",
    "png",
    "recovery_plot",
    "training_plot",
]
