"""The top of the page: what is said of a posterior that passes, and of one that fails."""

from dataclasses import replace

import pytest
from example_run import SEEN, problem, reports, spoil, write_example_run
from reading import section, sections

from sbikit.pages.sections.verdict import verdict
from sbikit.roles.validator import Metric, Report
from sbikit.testing import GaussianField, GaussianFieldOptions, gather_evidence
from sbikit_calibration.ranks.sbc import Sbc

SPEC = problem()


def _check(name="rank_shift", variable="theta.S8", value=0.0, p=0.5, wrong=False):
    return Metric(name, variable, value, 0.1, 0.0, "fail" if wrong else "pass", "says what it is", p=p)


def _contraction(variable, value, error):
    return Metric("contraction", variable, value, error, None, "none", "share of the prior variance")


def test_calibrated_is_said_with_what_would_have_been_seen(tmp_path):
    write_example_run(tmp_path, SPEC)
    _, page, _ = sections(tmp_path)
    assert "Calibrated: 6 of 6 checks pass" in page.text
    assert "In nine of ten such runs these checks would have seen:" in page.text
    assert SEEN in page.text


def test_calibrated_is_not_said_where_nothing_would_have_been_seen(tmp_path):
    blind = tuple(replace(report, sees=()) for report in reports(SPEC))
    write_example_run(tmp_path, SPEC, judged=blind)
    _, page, _ = sections(tmp_path)
    assert "No fault was found: 6 of 6 checks pass" in page.text
    assert "Calibrated:" not in page.text
    assert "none says what it would have seen" in page.text


def test_a_run_of_few_observations_does_not_call_itself_calibrated():
    """sbc of an exact posterior, with too few observations for anything to be seen."""
    toy = GaussianField(GaussianFieldOptions(size=8, parameters=1))
    evidence = gather_evidence(toy, toy.exact_sampler(), observations=4, draws=4, training=32)
    found = verdict([Sbc().validate(evidence, seed=0)], evidence.spec)
    assert found.state == "none"
    assert not found.headline.startswith("Calibrated")


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        (_contraction("theta.w0", 0.01, 0.02), "contraction 0.010 ± 0.020"),
        (_contraction("theta.w0", 0.15, 0.10), "contraction 0.15 ± 0.10"),
        (_contraction("kappa", 0.02, 0.001), "contraction 0.0200 ± 0.0010"),
        (_contraction("theta.w0", 0.4, 0.02), ""),
        (_contraction("theta", 0.01, 0.02), ""),  # a mean over parameters
        (_contraction("joint", 0.01, 0.02), ""),
    ],
)
@pytest.mark.parametrize("wrong", [False, True])
def test_the_top_says_of_what_nothing_was_learned(metric, said, wrong, tmp_path):
    judged = (Report("sbc", (_check(wrong=wrong), metric), sees=(SEEN,)),)
    found = verdict(judged, SPEC)
    assert [str(one).split(" (")[1] for one in found.unlearned] == ([f"{said})"] if said else [])
    write_example_run(tmp_path, SPEC, judged=judged)
    _, page, _ = sections(tmp_path)
    assert ("Next to nothing was learned of" in page.text) == bool(said)


def test_of_many_failed_checks_the_top_lists_the_worst_of_each_variable():
    many = [
        _check(f"c{i}", v, 1.0, 10.0 ** -(5 + i), wrong=True) for v in ("theta.S8", "kappa") for i in range(5)
    ]
    found = verdict([Report("sbc", tuple(many))], SPEC)
    assert [row.name for row in found.failed] == ["c4", "c4"]
    assert found.unlisted == 8
    assert found.headline == "Not calibrated: 0 of 10 checks pass"


def test_many_checks_are_folded_and_those_that_fail_stand_outside(tmp_path):
    many = (*(_check(f"check {i}") for i in range(20)), _check("broken", value=1.0, p=1e-7, wrong=True))
    write_example_run(tmp_path, SPEC, judged=(Report("sbc", many, sees=(SEEN,)),))
    html, page, _ = sections(tmp_path)
    assert "All 21 checks" in page.text
    before = html[html.index('id="calibration"') : html.index("All 21 checks")]
    assert "broken" in before
    assert "check 3" not in before
    assert "p < 10⁻⁶" in page.text.replace("\u00a0", " ")
    assert "p = 0.5" in page.text.replace("\u00a0", " ")


def test_the_rate_of_false_alarms_is_the_sum_of_what_the_validators_allow(tmp_path):
    write_example_run(tmp_path, SPEC)
    _, page, _ = sections(tmp_path)
    assert "by chance" not in page.text  # mira and coverage are written without alpha there
    run = tmp_path / "run.yaml"
    text = run.read_text().replace("- name: mira", "- {name: mira, alpha: 0.002}")
    run.write_text(text.replace("- name: coverage", "- name: coverage\n  alpha: 0.005"))
    html, _, _ = sections(tmp_path)
    assert "At most 0.7 of 100 exact posteriors would fail a check" in section(html, "calibration")


def test_a_failed_check_says_how_far_off_it_is(tmp_path):
    write_example_run(tmp_path, SPEC, judged=spoil(reports(SPEC)))
    _, page, _ = sections(tmp_path)
    assert "Not calibrated: 5 of 6 checks pass" in page.text
    assert "10.5 standard errors below" in page.text
