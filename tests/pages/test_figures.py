import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex

from sbikit.pages.figures.contours import corner_plot
from sbikit.pages.figures.field_statistics import field_statistics
from sbikit.pages.figures.maps import data_maps, field_maps
from sbikit.pages.figures.shown_field import FieldSummary, ShownField
from sbikit.pages.figures.style import NARROW, POSTERIOR, REFERENCE, WIDE
from sbikit.pages.figures.wave_axis import wave_axis
from sbikit.problem.variables import Field

RNG = np.random.default_rng(2)


def colours_of(axes):
    """Colours of the contours, of which every set of draws has two levels."""
    return [to_hex(colour) for one in axes.collections for colour in one.get_edgecolor()]


def test_posterior_and_reference_have_colours_of_their_own():
    draws = RNG.normal(size=(400, 2))
    figure = corner_plot(["a", "b"], draws, None, draws + 0.5, WIDE)
    assert set(colours_of(figure.axes[2])) == {POSTERIOR, REFERENCE}
    alone = corner_plot(["a", "b"], draws, None, None, WIDE)
    assert set(colours_of(alone.axes[2])) == {POSTERIOR}


@pytest.mark.parametrize("layout", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("channels", [1, 2, 5, 6])
@pytest.mark.parametrize("extent", [(4.0, 4.0), (10.0, 10.0), (1.0, 4.0), (12000.0, 3000.0)])
def test_no_map_is_cut_off_and_none_lies_on_another(layout, channels, extent):
    field = Field("g", (8, 8), channels, extent, unit="mag", extent_unit="deg", latex=r"\gamma^{2}")
    figure = data_maps(field, RNG.normal(size=field.shape), layout, signed=True)
    FigureCanvasAgg(figure).draw()
    width, height = figure.get_size_inches()
    assert width <= layout.width + 1e-9
    seen = figure.get_tightbbox()
    assert min(seen.x0, seen.y0) > 0
    assert seen.x1 < width
    assert seen.y1 < height
    boxes = [axes.get_tightbbox() for axes in figure.axes]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_a_row_of_a_map_is_shown_where_its_axis_says():
    field = Field("kappa", (4, 6), extent=(2.0, 3.0), extent_unit="deg")
    values = np.zeros(field.shape)
    values[0, 0, 5] = 1.0  # the first row, y = 0 to 0.5; the last column, x = 2.5 to 3
    axes = data_maps(field, values, WIDE, signed=True).axes[0]
    figure = axes.get_figure()
    FigureCanvasAgg(figure).draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())

    def colour(x, y):
        column, row = axes.transData.transform((x, y))
        return pixels[len(pixels) - 1 - int(row), int(column), :3].tolist()

    assert colour(2.75, 0.25) != colour(0.25, 0.25)
    assert colour(2.75, 1.75) == colour(0.25, 0.25)


def titles(shown):
    return [axes.get_title() for axes in field_maps(shown, WIDE).axes if axes.get_title()]


def test_the_maps_of_a_field_are_those_that_are_known():
    field = Field("f", (6, 6))
    draws, truth, summary = (RNG.normal(size=shape) for shape in ((5, 6, 6), (6, 6), (6, 6)))
    posterior = ["posterior mean", "posterior sd"]
    three = ["draw 1", "draw 2", "draw 3"]
    assert titles(ShownField(field, 0, draws)) == [*posterior, "mean / sd", *three]
    named = (FieldSummary("$f^{a}$", summary), FieldSummary("b", summary))
    assert titles(ShownField(field, 0, draws, truth, summaries=named)) == [
        "truth",
        *posterior,
        "(mean − truth) / sd",
        *three,
        "$f^{a}$*",
        "b*",
    ]


@pytest.mark.parametrize(
    ("extent_unit", "grid", "labels", "unit"),
    [
        ("deg", (4, 4), (r"multipole $\ell$", r"$C_\ell$ [mK$^2$ sr]"), np.pi / 180),
        ("rad", (4, 4), (r"multipole $\ell$", r"$C_\ell$ [mK$^2$ sr]"), 1.0),
        ("deg", (4,), ("$k$ [rad/deg]", "$P(k)$ [mK$^2$ deg]"), 1.0),
        ("Mpc", (4, 4, 4), ("$k$ [rad/Mpc]", "$P(k)$ [mK$^2$ Mpc$^3$]"), 1.0),
    ],
)
def test_a_map_of_the_sky_is_shown_in_multipoles(extent_unit, grid, labels, unit):
    axis = wave_axis(Field("t", grid, unit="mK", extent_unit=extent_unit))
    assert (axis.label, axis.power_label) == labels
    assert axis.position(np.array([2.0])) == pytest.approx(2 / unit)
    assert axis.power(np.array([3.0])) == pytest.approx(3 * unit**2)


@pytest.mark.parametrize(
    ("stationary", "periodic", "panels"), [(True, True, 4), (True, False, 4), (False, True, 1)]
)
def test_a_field_has_spectra_only_where_one_place_is_like_another(stationary, periodic, panels):
    field = Field("f", (8, 6), stationary=stationary, periodic=periodic)
    draws, truth = RNG.normal(size=(9, 8, 6)), RNG.normal(size=(8, 6))
    figure = field_statistics(ShownField(field, 0, draws, truth), WIDE)
    titles = [axes.get_title() for axes in figure.axes]
    assert len(titles) == panels
    assert titles[-1] == "one-point distribution"
    assert ("power spectrum" in titles) == stationary


def test_a_trend_puts_no_power_into_the_small_scales_of_a_field_that_does_not_close():
    def smallest(periodic):
        field = Field("f", (64,), stationary=True, periodic=periodic)
        draws = np.linspace(-1.0, 1.0, 64) + 1e-3 * np.random.default_rng(0).normal(size=(20, 64))
        return field_statistics(ShownField(field, 0, draws), WIDE).axes[0].lines[0].get_ydata()[-1]

    assert smallest(False) < 1e-2 * smallest(True)
