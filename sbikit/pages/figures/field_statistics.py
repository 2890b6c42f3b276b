"""Statistics of a field's draws beside those of its truth: power, correlation, one-point distribution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sbikit.fields.moments import histogram
from sbikit.fields.spectra import Spectrum, correlation, power_spectrum
from sbikit.fields.taper import tapered
from sbikit.pages.arrays import Array
from sbikit.pages.figures.cells import cells
from sbikit.pages.figures.labels import field_label, plain_log_ticks, with_unit
from sbikit.pages.figures.panels import band, panels, tidy
from sbikit.pages.figures.shown_field import ShownField
from sbikit.pages.figures.style import MUTED, POSTERIOR, REFERENCE, TRUTH, WIDE, FigureLayout, styled
from sbikit.pages.figures.wave_axis import wave_axis
from sbikit.problem.variables import Field

# Points of a spectrum: more resolve its shape, fewer average more modes each; a line has few modes.
_POINTS, _POINTS_OF_A_LINE = 20, 10
_BINS = 32  # of the one-point distribution: of 1,000 pixels about 30 each


@dataclass(frozen=True)
class _Drawn:
    """One set of draws (n, *grid) and how it is drawn."""

    rows: Array
    colour: str
    label: str


@styled
def field_statistics(shown: ShownField, layout: FigureLayout) -> Figure:
    """Power spectrum, its ratio to the truth, correlation with the truth, one-point distribution.

    Without a truth, the first and the last; of a field that is not stationary, and has no spectrum, only the
    last. Where the grid does not close on itself, fields are tapered before their modes are taken. Spectra
    are in multipoles where the field is a map of the sky.
    """
    field, truth = shown.field, shown.truth
    sets = [_Drawn(shown.draws, POSTERIOR, "posterior: median, 68 %, 95 %")]
    if shown.reference is not None:
        sets.insert(0, _Drawn(shown.reference, REFERENCE, "reference: median, 68 %"))
    fills = [partial(_power_panel, field, sets, truth)] if field.stationary else []
    if field.stationary and truth is not None:
        fills += [partial(panel, field, sets, truth) for panel in (_ratio_panel, _correlation_panel)]
    fills.append(partial(_one_point_panel, field, sets, truth))
    height, columns = (0.62, 2) if layout is WIDE else (0.75, 1)
    figure, made = panels(len(fills), layout, height=height, columns=columns)
    for axes, fill in zip(made, fills, strict=True):
        fill(axes)
        tidy(axes)
    made[0].legend(handles=_handles(sets, truth), loc="lower left")
    made[-1].set_xlabel(with_unit(field_label(field, shown.channel), field.unit))
    return figure


def _handles(sets: Sequence[_Drawn], truth: Array | None) -> list[Line2D]:
    handles = [Line2D([], [], color=one.colour, label=one.label) for one in reversed(sets)]
    if truth is not None:
        handles.append(Line2D([], [], color=TRUTH, linestyle="--", linewidth=1.2, label="truth"))
    return handles


def _draw_bands(axes: Axes, x: Array, rows: Array, colour: str) -> None:
    """Median of rows (n, K) with bands; of the reference only the outline of 68 %, so that both are seen."""
    if colour == REFERENCE:
        for edge in np.quantile(rows, [0.16, 0.84], axis=0):
            axes.plot(x, edge, color=colour, lw=0.9)
    else:
        band(axes, x, rows, colour)
    axes.plot(x, np.median(rows, axis=0), color=colour)


# --- against wave number ---------------------------------------------------------------------


def _power_panel(field: Field, sets: Sequence[_Drawn], truth: Array | None, axes: Axes) -> None:
    axis = wave_axis(field)

    def drawn(rows: Array) -> Spectrum:
        spectrum = _power(field, rows)
        return replace(spectrum, power=axis.power(spectrum.power))

    found = _draw_spectra(axes, field, sets, drawn)
    if truth is not None:
        found.append(drawn(truth))
        axes.plot(axis.position(found[-1].k), found[-1].power, color=TRUTH, ls="--", lw=1.2)
    some = any(bool((one.power > 0).any()) for one in found)  # a constant has no power to take a logarithm of
    axes.set(yscale="log" if some else "linear", ylabel=axis.power_label, title="power spectrum")


def _ratio_panel(field: Field, sets: Sequence[_Drawn], truth: Array, axes: Axes) -> None:
    true = _power(field, truth).power
    safe = np.where(true > 0, true, np.inf)

    def ratio(rows: Array) -> Spectrum:
        spectrum = _power(field, rows)
        return replace(spectrum, power=spectrum.power / safe)

    found = _draw_spectra(axes, field, sets, ratio)
    tops = [float(np.quantile(np.quantile(one.power, 0.975, axis=0), 0.9)) for one in found]
    axes.set_ylim(0.0, 1.15 * min(max(*tops, 1.3), 5.0))  # one bin with little power must not set the scale
    axes.axhline(1.0, color=TRUTH, ls="--", lw=1.2)
    axes.set(ylabel="power / power of the truth", title="ratio to the truth")


def _correlation_panel(field: Field, sets: Sequence[_Drawn], truth: Array, axes: Axes) -> None:
    def with_truth(rows: Array) -> Spectrum:
        return correlation(_ends(field, rows), _ends(field, truth), field.extent, bins=_points(field))

    _draw_spectra(axes, field, sets, with_truth)
    for one in sets:
        mean = with_truth(one.rows.mean(0))
        axes.plot(wave_axis(field).position(mean.k), mean.power, color=one.colour, lw=1.0, ls=":")
    axes.axhline(0.0, color=MUTED, lw=0.8)
    axes.set(ylim=(-0.35, 1.05), ylabel="correlation coefficient")
    axes.set_title("correlation with the truth (dotted: posterior mean)")


def _draw_spectra(
    axes: Axes, field: Field, sets: Sequence[_Drawn], of: Callable[[Array], Spectrum]
) -> list[Spectrum]:
    """Bands of what `of` makes of each set's draws, on a logarithmic axis of wave numbers."""
    axis = wave_axis(field)
    found = [of(one.rows) for one in sets]
    for one, spectrum in zip(sets, found, strict=True):
        _draw_bands(axes, axis.position(spectrum.k), spectrum.power, one.colour)
    axes.set(xscale="log", xlabel=axis.label)
    plain_log_ticks(axes.xaxis)
    return found


def _power(field: Field, rows: Array) -> Spectrum:
    return power_spectrum(_ends(field, rows), field.extent, bins=_points(field))


def _ends(field: Field, rows: Array) -> Array:
    """Fields (*batch, *grid) whose ends may meet: tapered where the grid does not close on itself."""
    if field.periodic:
        return rows
    return tapered(torch.from_numpy(np.array(rows, np.float64)), len(field.grid)).numpy()


def _points(field: Field) -> int:
    most = _POINTS_OF_A_LINE if len(field.grid) == 1 else _POINTS
    return max(1, min(max(field.grid) // 2, most))


# --- over pixels -----------------------------------------------------------------------------


def _one_point_panel(field: Field, sets: Sequence[_Drawn], truth: Array | None, axes: Axes) -> None:
    pooled = [one.rows for one in sets] + ([] if truth is None else [truth])
    low = min(float(np.quantile(one, 0.0005)) for one in pooled)
    high = max(float(np.quantile(one, 0.9995)) for one in pooled)
    pad = 0.05 * (high - low) or 0.5
    edges = np.linspace(low - pad, high + pad, _BINS + 1)
    centres = 0.5 * (edges[1:] + edges[:-1])
    for one in sets:
        _draw_bands(axes, centres, histogram(one.rows, edges, axes=len(field.grid)), one.colour)
    if truth is not None:
        axes.stairs(histogram(truth, edges, axes=len(field.grid)), edges, color=TRUTH, ls="--", lw=1.2)
    axes.set(ylabel=f"density of {cells(field)}", title="one-point distribution", ylim=(0, None))
