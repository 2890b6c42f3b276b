"""Runs that lack something, or hold what they should not."""

import pytest
from example_run import looks, problem, write_example_run
from reading import sections

from sbikit.pages import page_content, read_run, render, write_report
from sbikit.problem.errors import RunFolderError
from sbikit.roles.validator import Metric, Report
from sbikit.storage.read import read_posterior
from sbikit.storage.write import write_posterior


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


@pytest.mark.parametrize(("too_narrow", "far"), [(1.0, 0), (1.1, 0), (1.5, 18)])
def test_errors_that_are_not_those_that_the_denoiser_implies_are_counted(tmp_path, too_narrow, far):
    """Of three parameters at six levels, of the last look alone."""
    write_example_run(tmp_path, problem(fields=False), calibration=False, reference=False, judged=())
    with (tmp_path / "training.jsonl").open("w") as log:
        log.writelines(f'{{"step": {k}, "loss": {3 - k / 1e4}, "simulations": {k}}}\n' for k in (2000, 4000))
        log.writelines(line + "\n" for line in looks(steps=(2000,), too_narrow=3.0))
        log.writelines(line + "\n" for line in looks(steps=(4000,), too_narrow=too_narrow))
    _, page, _ = sections(tmp_path)
    assert f"After step 4,000, on simulations that never trained, {far} of 18 squared errors" in page.text
    assert "Squared errors of denoised parameters" in page.text
    assert "Loss against training simulations seen" in page.text


def test_a_training_that_was_not_looked_at_shows_no_noise_levels(tmp_path):
    write_example_run(tmp_path, problem(fields=False), calibration=False, reference=False, judged=())
    with (tmp_path / "training.jsonl").open("w") as log:
        log.writelines(f'{{"step": {k}, "loss": {3 - k}, "sigma": 1.0}}\n' for k in (1, 2))
    _, page, _ = sections(tmp_path)
    assert "Squared errors" not in page.text


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
