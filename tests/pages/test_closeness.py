from dataclasses import replace

import pytest
from example_run import agreement, problem, write_example_run
from reading import Text, section

from sbikit.pages import page_content, read_run, write_report
from sbikit.pages.numbers import plus_minus


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
    assert "Worst reading Over the 14 trusted Over all 16 Wanted R-hat 1.006 not finite at most 1.01" in (
        section(full[1], "provenance")
    )


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
