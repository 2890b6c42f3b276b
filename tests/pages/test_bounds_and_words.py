"""Corner plots end where the prior does, and the page calls things by the words of their kind."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from example_run import problem, reports, write_example_run
from matplotlib.figure import Figure
from torch.distributions import constraints

from sbikit import Field, LogNormal, Normal, Prior, TruncatedNormal, Uniform, Vector
from sbikit.pages import write_report
from sbikit.pages.figures.cells import cells
from sbikit.pages.figures.contours import corner_plot
from sbikit.pages.figures.style import NARROW, WIDE
from sbikit.pages.figures.wave_axis import wave_axis
from sbikit.pages.names import metric_variable
from sbikit.pages.sections.asked import _described
from sbikit.problem.bounds import bounds
from sbikit.storage.read import read_posterior
from sbikit.testing import GaussianVector, gather_evidence
from sbikit_calibration.coverage.contraction import contraction
from sbikit_calibration.coverage.mira import Mira
from sbikit_calibration.coverage.tarp import Tarp

FREE = (-math.inf, math.inf)


def heights(figure: Figure, i: int, count: int) -> np.ndarray:
    """Heights of the histogram of a parameter, the ends of its outline left out."""
    outline = max(figure.axes[i * count + i].lines, key=lambda line: len(line.get_xdata()))
    found = np.asarray(outline.get_ydata())
    return found[found > 0]


@pytest.mark.parametrize("layout", [WIDE, NARROW])
def test_a_corner_plot_ends_at_the_bounds_and_loses_nothing_there(layout: object) -> None:
    """A uniform density is flat up to the ends of its support: its histogram is, within Poisson errors."""
    rng = np.random.default_rng(0)
    n = 20_000
    draws = np.stack([rng.uniform(0, 1, n), rng.exponential(1.0, n), rng.normal(size=n)], 1).astype("float32")
    labels = ["u", "e", "z"]
    ends = ((0.0, 1.0), (0.0, math.inf), FREE)
    figure = corner_plot(labels, draws, None, None, layout, bounds=ends)  # type: ignore[arg-type]
    low, high = figure.axes[0].get_xlim()
    assert (low, high) == (0.0, 1.0)
    assert figure.axes[4].get_xlim()[0] == 0.0
    assert figure.axes[8].get_xlim()[0] < -2.5
    flat = heights(figure, 0, 3)
    assert len(flat) >= 60  # 30 bins, two corners each
    assert flat == pytest.approx(1.0, rel=5 * (30 / n) ** 0.5)  # each holds a thirtieth of the draws
    for row in (1, 2):  # the pairs below share the axis
        assert figure.axes[3 * row].get_xlim() == (0.0, 1.0)


def test_draws_beyond_a_bound_are_shown() -> None:
    draws = np.random.default_rng(0).normal(size=(1000, 1)).astype("float32")
    figure = corner_plot(["x"], draws, None, None, WIDE, bounds=((0.0, math.inf),))
    assert figure.axes[0].get_xlim()[0] < -2.5


def test_a_reference_beyond_the_bound_is_shown_too() -> None:
    rng = np.random.default_rng(0)
    inside, beyond = rng.uniform(size=(1000, 1)), rng.uniform(-0.5, 1.0, size=(1000, 1))
    figure = corner_plot(["x"], inside, None, beyond, WIDE, bounds=((0.0, 1.0),))
    low, high = figure.axes[0].get_xlim()
    assert low < -0.5
    assert high == 1.0


def test_bounds_are_those_of_laws_and_of_supports() -> None:
    prior = Prior(
        {
            "u": Uniform(-1.0, 2.0),
            "n": Normal(0.0, 1.0),
            "l": LogNormal(1.0, 0.5),
            "t": TruncatedNormal(0, 1, 0.5),
        }
    )
    assert bounds(prior.variable, prior) == ((-1.0, 2.0), FREE, (0.0, math.inf), (0.5, math.inf))
    for support, ends in (
        (constraints.real, FREE),
        (constraints.positive, (0.0, math.inf)),
        (constraints.unit_interval, (0.0, 1.0)),
        (constraints.less_than(3.0), (-math.inf, 3.0)),
        (constraints.interval(-2.0, 2.0), (-2.0, 2.0)),
    ):
        assert bounds(Vector("v", ("a", "b"), support=support), prior) == (ends, ends)


def test_a_file_without_bounds_has_none(tmp_path: Path) -> None:
    found = read_posterior(write_example_run(tmp_path) / "posterior.nc")
    assert found.bounds["theta"] == (FREE,) * 3


# --- words ----------------------------------------------------------------------------------

SERIES = Field("cases", (100,), extent=(160.0,), extent_unit="day")
BARE = Field("signal", (32,))
MAP = Field("map", (8, 8))
CUBE = Field("cube", (4, 4, 4))


def test_cells_have_the_name_of_their_kind() -> None:
    assert [cells(SERIES), cells(MAP), cells(CUBE), cells(SERIES, MAP)] == [
        "points",
        "pixels",
        "voxels",
        "pixels",
    ]
    assert [one.extent_unit for one in (SERIES, BARE, MAP, CUBE)] == ["day", "point", "pixel", "voxel"]
    assert wave_axis(BARE).label == "$k$ [rad/point]"
    described = [str(_described(one, "number")) for one in (SERIES, BARE, MAP, CUBE)]
    assert described == [
        "the field cases (100 points over 160 day)",
        "the field signal (32 points)",
        "the field map (8 × 8 pixels)",
        "the field cube (4 × 4 × 4 voxels)",
    ]
    assert str(_described(Vector("x", ("x1", "x2")), "number")) == "the 2 numbers x1, x2"
    assert str(_described(Vector("x", ("x1",)), "number")) == "the number x1"
    many = Vector("x", tuple(f"x{i}" for i in range(1, 61)))
    assert str(_described(many, "number")) == "the 60 numbers x1, x2, …, x60"


def test_a_page_about_a_series_speaks_of_no_pixels(tmp_path: Path) -> None:
    spec = problem(grid=(32,), extent=(16.0,))
    folder = write_example_run(tmp_path, spec, judged=reports(spec), reference=False)
    page = write_report(folder).read_text().replace("Masked pixels", "")  # a fact of the example's simulator
    text = re.sub(r"<style>.*?</style>|base64,[^\"]*", "", page, flags=re.DOTALL)
    assert "pixel" not in text.lower()
    assert "Over the points" in text
    assert "32 points over 16 deg" in text


def test_a_figure_of_one_scalar_is_labelled_by_it() -> None:
    toy = GaussianVector()
    evidence = gather_evidence(toy, toy.exact_sampler(), observations=40, draws=16, training=100)
    found = contraction(evidence)
    assert [str(metric_variable(one.variable, toy.spec)) for one in found] == ["a", "b", "a, b"]
    assert {one.name for one in found} == {"contraction"}


def test_meanings_are_in_plain_words() -> None:
    toy = GaussianVector()
    evidence = gather_evidence(toy, toy.exact_sampler(), observations=40, draws=16, training=100)
    for validator in (Mira(), Tarp()):
        meanings = {metric.name: metric.meaning for metric in validator.validate(evidence, seed=0).metrics}
        for name, meaning in meanings.items():
            assert "ball" not in meaning
            assert "where calibrated" not in meaning
            if "data_centres" in name and not name.endswith("_p"):
                assert "regions around points predicted from the data" in meaning
