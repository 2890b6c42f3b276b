import json
import re
import struct
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import matplotlib as mpl
import numpy as np
import pytest
from example_run import agreement, problem, reports, spoil, write_example_run

from sbikit.problem.errors import PluginError, RunFolderError
from sbikit.problem.spec import Spec
from sbikit.problem.variables import Field, Vector
from sbikit.report import page_content, read_run, render, write_report
from sbikit.report.figures.labels import math_label
from sbikit.report.names import curve_title, metric_variable, title
from sbikit.report.notation import latex_to_html
from sbikit.report.numbers import plus_minus
from sbikit.report.sections.calibration import calibration
from sbikit.roles.validator import Curve, Metric, Report
from sbikit.storage.metrics import (
    read_compared,
    read_metrics,
    report_from_dict,
    report_to_dict,
    write_metrics,
)


class Text(HTMLParser):
    """Visible text, anchors, ids and image sources of a page; fails on tags that do not match."""

    VOID = {"meta", "link", "img", "source", "rect", "line", "circle", "br"}

    def __init__(self, html):
        super().__init__()
        self.words, self.ids, self.links, self.sources, self.open = [], [], [], [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"]] if tag == "a" else []
        self.sources += [found[key] for key in ("src", "srcset") if key in found]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    folder = write_example_run(
        tmp_path_factory.mktemp("full"), judged=spoil(reports(problem())), compared=(agreement(problem()),)
    )
    settings = dict(mpl.rcParams)
    path = write_report(folder)
    assert dict(mpl.rcParams) == settings
    return path, path.read_text(encoding="utf-8")


def test_the_page_is_whole(full):
    path, html = full
    page = Text(html)
    assert path.name == "report.html"
    assert len(set(page.ids)) == len(page.ids)
    inner = [link[1:] for link in page.links if link.startswith("#")]
    assert len(inner) == 12
    assert inner.count("reference") == 2  # in the contents and beside the verdict
    assert set(inner) <= set(page.ids)
    assert "None" not in page.text
    assert "nan" not in page.text.lower().split()


def test_the_page_needs_nothing_from_outside(full):
    page = Text(full[1])
    assert page.sources
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert "<script" not in full[1]
    assert "@import" not in full[1]
    assert "url(" not in full[1]
    assert "default-src 'none'" in full[1]


def test_the_verdict_says_what_failed(full):
    page = Text(full[1])
    assert "Not calibrated: 5 of 6 checks pass" in page.text
    assert "is 0.6120 ± 0.0052, where 0.6667 is ideal (10.5 standard errors below)" in page.text
    assert "the draws are too narrow" in page.text


def test_every_section_is_there(full):
    text = Text(full[1]).text
    for words in (
        "lognormal with diffusion-transformer",
        "from 128,000 simulations",
        "200 draws for the observation",
        "64 draws for each of 24 held-out simulations",
        "simulator.noise.sigma_e",
        "validators.coverage.levels",
        "Wall time",
        "2 min 37 s",
        "1.0286 ± 0.0046",
        "sbikit run --sim lognormal --estimator diffusion-transformer --seed 3 --out runs/a",
        "last validation loss 0.306",
        "torch",
    ):
        assert words in text, words
    assert "https://arxiv.org/abs/2605.02014" in full[1]
    assert "https://doi.org/10.48550/arXiv.2302.03026" in full[1]


def test_figures_are_saved_and_embedded(full):
    folder = full[0].parent / "figures"
    names = {path.stem for path in folder.iterdir()}
    assert names == {
        "observation_shear",
        "summary_kappa_raw",
        "corner",
        "field_kappa",
        "statistics_kappa",
        "calibration_coverage",
        "agreement_mean_offset",
        "agreement_band_power_ratio",
        "recovery_parameters",
        "recovery_fields",
        "training",
    }
    for path in folder.iterdir():
        content = path.read_bytes()
        assert content[:8] == b"\x89PNG\r\n\x1a\n"
        width, height = struct.unpack(">II", content[16:24])
        assert 400 < width < 1600
        assert 300 < height < 1600


def test_numbers_of_the_table_are_those_of_the_draws(full):
    files = read_run(full[0].parent)
    draws, truth = files.posterior.posterior["theta"][:, 0], files.posterior.truth["theta"][0]
    row = page_content_row(full[1], "Ω")
    offset = (draws.mean() - truth) / draws.std(ddof=1)
    assert f"{draws.mean():.4f}" in row
    assert f"{draws.std(ddof=1):.4f}" in row
    assert f"{offset:+.2f}".replace("-", "−") in row


def page_content_row(html, name):
    """The text of the first parameter row whose heading holds `name`."""
    body = html[html.index('id="parameters"') :]
    start = body.index(name, body.index("<tbody>"))
    return re.sub(r"<[^>]+>", " ", body[start : body.index("</tr>", start)])


def test_the_report_is_the_same_twice(full):
    assert write_report(full[0].parent).read_text(encoding="utf-8") == full[1]


# --- how close to the exact posterior ---------------------------------------------------------


def section(html, anchor):
    """The text of a section."""
    start = html.index(f'<section id="{anchor}">')
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html[start : html.index("</section>", start)]))


def test_agreement_stands_apart_from_calibration(full):
    text = Text(full[1]).text
    assert "Not calibrated: 5 of 6 checks pass" in text
    assert "Agreement with the exact posterior: 22 of 28 figures within tolerance" in text
    assert "sd ratio" not in section(full[1], "calibration")
    assert "arXiv:1610.06545" in section(full[1], "references")


def test_every_figure_stands_beside_its_floor(full):
    found = section(full[1], "reference")
    for metric in agreement(problem()).metrics:
        assert f"{plus_minus(metric.value, metric.error)} {plus_minus(metric.floor, metric.floor_error)}" in (
            found
        )
    for words in (
        "hmc drew the exact posterior of 16 held-out observations. Its draws can be trusted for 14 of them.",
        "Observations 5, 11 are left out, because the draws there cannot be "
        "called exact: bulk ESS down to 180 (wanted at least 400); 0.30% of the transitions diverged.",
        "22 of 28 figures are within tolerance.",
        "Ω m 3 of 6 within tolerance",
        "κ 6 of 7 within tolerance",
        "joint 1 of 1 within tolerance",
        "C2ST",
        "coverage 68 %",
    ):
        assert words in found, words
    assert full[1].count('class="mark"') > 28
    assert "observations 14 16" in section(full[1], "provenance")


def test_the_point_of_a_drawing_is_the_figure(full):
    """Of one figure's drawings the farthest end lies at 52 of 60 units."""
    found = page_content(read_run(full[0].parent))["reference"].comparisons[0]
    rows = [row for group in found.groups for row in group.rows if row.name == "sd ratio"]
    given = [metric for metric in agreement(problem()).metrics if metric.name == "sd_ratio"]
    reach = max(abs(m.value - 1.0) + m.error for m in given)
    for row, metric in zip(rows, given, strict=True):
        assert row.mark.value == pytest.approx(52 * (metric.value - 1.0) / reach)
        assert row.mark.floor[1] == pytest.approx(52 * (metric.floor + metric.floor_error - 1.0) / reach)


def test_variables_of_which_none_fails_are_folded_where_there_are_many(tmp_path):
    spec = problem(channels=6)
    good, bad = agreement(spec, excess=0.1), agreement(spec)
    mixed = [b if b.variable == "theta.S8" else g for g, b in zip(good.metrics, bad.metrics, strict=True)]
    assert len(mixed) > 60
    write_example_run(tmp_path, spec, compared=(replace(good, metrics=tuple(mixed), curves=()),), judged=())
    found = page_content(read_run(tmp_path))["reference"].comparisons[0]
    assert [str(group.variable) for group in found.groups if not group.folded] == ["<i>S</i><sub>8</sub>"]
    assert "κ, channel 6" in [str(group.variable) for group in found.groups]


def test_a_shown_observation_without_trust_has_no_reference(tmp_path):
    write_example_run(
        tmp_path, problem(fields=False), compared=(agreement(problem(fields=False)),), untrusted=(0,)
    )
    page = Text(write_report(tmp_path).read_text(encoding="utf-8"))
    assert (
        "The sampler hmc was run on the same observation, but its draws there cannot be called exact"
        in page.text
    )
    assert "Shift from it" not in page.text
    assert "Observation 0 is left out" in page.text


def test_a_reference_without_trust_is_told(tmp_path):
    write_example_run(tmp_path, problem(fields=False), untrusted=tuple(range(1, 16)))
    page = Text(write_report(tmp_path).read_text(encoding="utf-8"))
    assert "Agreement with the exact posterior: not judged, hmc is to be trusted for 1 of 16" in page.text
    assert "Observations 1-15 are left out" in page.text


# --- runs that lack something ---------------------------------------------------------------


def sections(folder):
    html = write_report(folder).read_text(encoding="utf-8")
    page = Text(html)
    return html, page, [i for i in page.ids if i != "verdict"]


def test_real_data_in_three_dimensions_without_parameters(tmp_path):
    spec = problem(grid=(6, 8, 8), extent=(3.0, 4.0, 4.0), vectors=False)
    write_example_run(tmp_path, spec, truth=False, reference=False, training=False, draws=30, observations=6)
    html, page, found = sections(tmp_path)
    assert found == [
        "asked",
        "observation",
        "fields",
        "calibration",
        "recovery",
        "provenance",
        "references",
    ]
    assert "its truth is not known" in page.text
    assert "middle slice" in page.text
    assert "truth inside" not in page.text
    assert "corner" not in html


def test_parameters_alone_without_any_check(tmp_path):
    write_example_run(tmp_path, problem(fields=False), calibration=False, reference=False, judged=())
    (tmp_path / "metrics.json").unlink()
    _, page, found = sections(tmp_path)
    assert found == ["asked", "observation", "parameters", "training", "provenance"]
    assert "Not judged: no calibration check was made" in page.text
    assert "Reference sampler none" in page.text


def test_a_line_with_few_draws(tmp_path):
    write_example_run(tmp_path, problem(grid=(24,)), draws=4, observations=3, judged=())
    _, page, found = sections(tmp_path)
    assert found == ["asked", "observation", "parameters", "fields", "reference", "training", "provenance"]
    assert "4 draws are too few for a corner plot" in page.text


def test_a_constant_parameter_and_a_diverged_training(tmp_path):
    from sbikit.storage.read import read_posterior
    from sbikit.storage.write import write_posterior

    write_example_run(tmp_path, problem(fields=False), calibration=False, reference=False, judged=())
    given = read_posterior(tmp_path / "posterior.nc")
    draws = {"theta": given.posterior["theta"].copy()}
    draws["theta"][:, 1] = 0.5
    write_posterior(
        tmp_path / "posterior.nc",
        spec=given.spec,
        posterior=draws,
        observed=given.observed,
        truth=given.truth,
    )
    with (tmp_path / "training.jsonl").open("a") as log:
        log.write('{"step": 9999, "loss": NaN, "simulations": 1}\n{"step": 100, "lo')
    _, page, _ = sections(tmp_path)
    assert "nothing to draw contours of" in page.text
    assert "not finite in 1 record: training diverged" in page.text
    assert "1 line of training.jsonl could not be read" in page.text


def test_text_from_outside_is_escaped(tmp_path):
    evil = Metric("<b>x</b>", "joint", 0.5, 0.1, None, "none", "<script>alert(1)</script>")
    write_example_run(
        tmp_path,
        problem(fields=False),
        calibration=False,
        reference=False,
        training=False,
        judged=(Report("v", (evil,), (), ("<i>me</i> arXiv:2302.03026",)),),
    )
    html = render(page_content(read_run(tmp_path)))
    assert "<script>" not in html
    assert "<b>x</b>" not in html
    assert "&lt;i&gt;me&lt;/i&gt; <a href=" in html


def test_a_figure_that_two_validators_give_is_told_once():
    first, second = reports(problem())
    shared = next(metric for metric in first.metrics if metric.verdict == "none")
    found = calibration((first, replace(second, metrics=(*second.metrics, shared), curves=())), problem())
    assert [len(one.unjudged) for one in found] == [1, 0]
    assert [len(one.rows) for one in found] == [3, 3]


# --- the alarm rings ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("run.yaml", None),
        ("run.yaml", "simulator: [1"),
        ("run.yaml", "simulator: {size: 3}\nestimator: {name: a}"),
        ("provenance.json", None),
        ("provenance.json", "{"),
        ("provenance.json", "[]"),
        ("posterior.nc", None),
        ("posterior.nc", "no"),
        ("metrics.json", "{}"),
        ("metrics.json", '{"reports": [{}]}'),
        ("metrics.json", '{"reports": [], "compared": "agreement"}'),
    ],
)
def test_a_damaged_folder_is_refused(tmp_path, name, content):
    write_example_run(tmp_path, problem(fields=False), draws=4, observations=2)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(RunFolderError) as caught:
        write_report(tmp_path)
    assert name in caught.value.where
    assert caught.value.expected
    assert caught.value.got
    assert not (tmp_path / "report.html").exists()


def test_a_single_draw_is_refused(tmp_path):
    write_example_run(tmp_path, problem(fields=False), draws=1, observations=2, reference=False)
    with pytest.raises(RunFolderError, match="at least two draws"):
        write_report(tmp_path)


# --- reports as JSON ------------------------------------------------------------------------


def test_reports_come_back_exactly(tmp_path):
    given = reports(problem())
    write_metrics(tmp_path / "metrics.json", given)
    assert read_metrics(tmp_path / "metrics.json") == given
    assert json.loads((tmp_path / "metrics.json").read_text())["reports"][0] == report_to_dict(given[0])
    assert report_from_dict(report_to_dict(given[1])) == given[1]


def test_numpy_numbers_are_kept():
    metric = Metric("a", "joint", np.float32(0.5), np.float64(0.1), None, "none", "")
    assert report_to_dict(Report("v", (metric,)))["metrics"][0]["value"] == 0.5


def test_which_reports_compare_is_kept(tmp_path):
    path = tmp_path / "metrics.json"
    write_metrics(path, (*reports(problem()), agreement(problem())), ["agreement"])
    assert read_compared(path) == {"agreement"}
    assert read_metrics(path)[-1] == agreement(problem())


def test_reports_from_before_there_were_floors_are_read(tmp_path):
    given = reports(problem())
    records = [report_to_dict(report) for report in given]
    for metric in (metric for record in records for metric in record["metrics"]):
        del metric["floor"], metric["floor_error"]
    (tmp_path / "metrics.json").write_text(json.dumps({"reports": records}))
    assert read_metrics(tmp_path / "metrics.json") == given
    assert read_compared(tmp_path / "metrics.json") == frozenset()


@pytest.mark.parametrize(
    "change",
    [
        {"value": float("nan")},
        {"error": float("inf")},
        {"verdict": "maybe"},
        {"floor": float("nan"), "floor_error": 0.1},
        {"floor": 0.1, "floor_error": float("inf")},
        {"floor": 0.1},
        {"floor_error": 0.1},
    ],
)
def test_a_metric_that_cannot_be_kept_is_refused(change):
    metric = replace(reports(problem())[0].metrics[0], **change)
    with pytest.raises(PluginError, match="cannot be kept"):
        report_to_dict(Report("mira", (metric,)))


@pytest.mark.parametrize("change", [{"y": (1.0,)}, {"low": (float("nan"),) * 21}])
def test_a_curve_that_cannot_be_kept_is_refused(change):
    curve = replace(reports(problem())[1].curves[0], **change)
    with pytest.raises(PluginError, match="cannot be kept"):
        report_to_dict(Report("coverage", (), (curve,)))


@pytest.mark.parametrize("change", [{"value": None}, {"value": "high"}, {"extra": 1}, {"verdict": "maybe"}])
def test_a_damaged_record_is_refused(change):
    record = report_to_dict(reports(problem())[0])
    record["metrics"][0] |= change
    with pytest.raises(RunFolderError, match="damaged"):
        report_from_dict(record)


# --- words ----------------------------------------------------------------------------------


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


def test_importing_sbikit_imports_no_matplotlib():
    code = (
        "import sys, sbikit, sbikit.storage.write, sbikit.fields.spectra, sbikit.storage.metrics; "
        "print('matplotlib' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_a_training_on_one_set_of_simulations_is_shown_by_steps(tmp_path):
    write_example_run(tmp_path, problem(fields=False), calibration=False, reference=False, judged=())
    with (tmp_path / "training.jsonl").open("w") as log:
        log.writelines(f'{{"step": {k}, "loss": {3 - k}, "simulations": 500}}\n' for k in (1, 2))
    _, page, _ = sections(tmp_path)
    assert "Loss against training step" in page.text
    with (tmp_path / "training.jsonl").open("w") as log:
        log.writelines(f'{{"step": {k}, "loss": {3 - k}, "simulations": {500 * k}}}\n' for k in (1, 2))
    _, page, _ = sections(tmp_path)
    assert "Loss against training simulations seen" in page.text


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
