from dataclasses import replace

import pytest
from example_run import problem, reports

from sbikit.pages.figures.labels import math_label, wrapped
from sbikit.pages.names import curve_title, metric_variable, title
from sbikit.pages.notation import latex_to_html
from sbikit.pages.numbers import plus_minus
from sbikit.pages.sections.calibration import calibration
from sbikit.problem.spec import Spec
from sbikit.problem.variables import Field, Vector
from sbikit.roles.validator import Curve


@pytest.mark.parametrize(
    ("latex", "html"),
    [
        (r"\Omega_m", "Ω<sub><i>m</i></sub>"),
        (r"\Omega_{\rm m}", "Ω<sub>m</sub>"),
        (r"\sigma_8", "σ<sub>8</sub>"),
        (r"\kappa^{\mathrm{KS}}", "κ<sup>KS</sup>"),
        (r"\hat{x}", "<i>x\u0302</i>"),
        ("alpha_1", "alpha_1"),
        (r"\frac{a}{b}", "label"),
        ("a}", "label"),
        ("{a", "label"),
        ("a_", "label"),
        (r"\<b>", "label"),
    ],
)
def test_latex_names_become_html(latex, html):
    label = "alpha_1" if latex == "alpha_1" else "label"
    assert str(latex_to_html(latex, label)) == html


@pytest.mark.parametrize(
    ("latex", "label", "drawn"),
    [
        ("kappa_ks", "kappa_ks", "kappa_ks"),
        (r"\kappa^{\mathrm{KS}}", "kappa_ks", r"$\kappa^{\mathrm{KS}}$"),
        ("w_0", "w0", "$w_0$"),
        (r"\nonsense{", "label", "label"),
    ],
)
def test_names_in_figures_are_latex_only_where_they_were_given_as_such(latex, label, drawn):
    assert math_label(latex, label) == drawn


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.61234, 0.0052, "0.6123 ± 0.0052"),
        (-1.05, 0.149, "−1.05 ± 0.15"),
        (12345.6, 120.0, "12,346 ± 120"),
        (-0.0004, 0.16, "0.00 ± 0.16"),
        (0.5, 0.0, "0.5 ± 0"),
        (2e-9, 1.5e-10, "2e−09 ± 1.5e−10"),
    ],
)
def test_a_number_has_the_digits_of_its_error(value, error, text):
    assert plus_minus(value, error) == text


def test_a_long_parameter_vector_is_cut_short_in_tables():
    long = Vector("theta", tuple(f"p{i}" for i in range(14)))
    short = Vector("phi", ("a", "b"))
    spec = Spec((long, short), (Field("x", (4, 4)),))
    assert metric_variable("theta", spec) == "p0, p1, … (14)"
    assert metric_variable("phi", spec) == "a, b"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("theta.S8", "<i>S</i><sub>8</sub>"),
        ("theta", "Ω<sub>m</sub>, <i>S</i><sub>8</sub>, <i>w</i><sub>0</sub>"),
        ("kappa", "κ"),
        ("kappa.2", "κ, channel 2"),
        ("kappa.4", "kappa.4"),
        ("theta.h", "theta.h"),
        ("joint_of_all", "joint of all"),
        ("<b>", "&lt;b&gt;"),
    ],
)
def test_what_a_figure_is_about_has_its_symbol(name, shown):
    assert str(metric_variable(name, problem(channels=3))) == shown


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("theta.S8", "sd ratio: $S_8$"),
        ("theta", r"sd ratio: $\Omega_{\rm m}$, $S_8$, $w_0$"),
        ("kappa.2", r"sd ratio: $\kappa$, channel 2"),
        ("joint", "sd ratio: joint"),
    ],
)
def test_a_curve_is_titled_by_what_it_is_about(name, shown):
    one = Curve("sd_ratio", name, *[(0.0,)] * 5, "x", "y")
    assert curve_title(one, problem(channels=3)) == shown


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("sd_ratio", "sd ratio"),
        ("coherence_log_variance", "coherence log variance"),
        ("c2st", "C2ST"),
        ("coverage_95", "coverage 95\u00a0%"),
        ("coverage 68 %", "coverage 68 %"),
    ],
)
def test_names_of_figures_are_words(name, words):
    assert title(name) == words


def test_a_figure_that_two_validators_give_is_told_once():
    first, second = reports(problem())
    shared = next(metric for metric in first.metrics if metric.verdict == "none")
    found = calibration((first, replace(second, metrics=(*second.metrics, shared), curves=())), problem())
    assert [len(one.unjudged) for one in found] == [1, 0]
    assert [len(one.rows) for one in found] == [3, 3]


def test_a_long_label_has_lines_of_like_length():
    label = "offset of the mean in posterior sd (dashed: between halves of the reference)"
    lines = ["offset of the mean", "in posterior sd", "(dashed: between halves", "of the reference)"]
    assert wrapped(label).splitlines() == lines
    assert wrapped("credible level") == "credible level"
