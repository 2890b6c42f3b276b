"""What samplers say of their draws, kept and told."""

from __future__ import annotations

import json
import math

import pytest
import torch

from sbikit.problem.errors import PluginError
from sbikit.roles.sampler import Draws
from sbikit.roles.trust import Reading, Trust, announcement, doubted, in_words, spans, trusted, worst
from sbikit.testing import GaussianVector


def judged(r_hat: float, ess: float) -> Trust:
    fine = r_hat <= 1.01
    readings = (
        Reading("R-hat", r_hat, 1.01),
        Reading("ESS", ess, 400, "lower"),
        Reading("steps", 7),
    )
    return Trust(fine, readings, () if fine else ("R-hat is too large",))


GOOD, BETTER, BAD, WORSE = judged(1.004, 500), judged(1.0, 900), judged(1.5, 4), judged(math.inf, 3)


def test_trust_is_plain_and_comes_back() -> None:
    for trust in (GOOD, WORSE, Trust()):
        assert Trust.from_record(json.loads(json.dumps(trust.record(), allow_nan=False))) == trust
    assert WORSE.readings[0].value is None
    assert math.isnan(WORSE.value("R-hat"))
    assert math.isnan(GOOD.value("nothing"))
    assert GOOD.value("ESS") == 500
    assert (trusted([GOOD, BAD]), doubted([GOOD, BAD])) == ([0], [1])


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"trustworthy": 1, "readings": [], "complaints": []},
        {"trustworthy": True, "readings": [{"value": 1.0}], "complaints": []},
        {"trustworthy": True, "readings": 3, "complaints": []},
    ],
)
def test_a_record_of_something_else_is_refused(record: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="trust"):
        Trust.from_record(record)


def test_a_sampler_that_judges_nothing_is_trusted() -> None:
    draws = Draws.unjudged({"theta": torch.zeros(2, 3, 2)})
    assert draws.trust == (Trust(),) * 3
    assert announcement("exact", draws.trust) == ["exact: to be trusted for 3 of 3 observations"]
    exact = GaussianVector().exact_sampler()
    assert exact.sample({"x": torch.zeros(1, 3)}, 2, seeds=torch.zeros(1).long().numpy()).trust == (Trust(),)


def test_draws_have_one_trust_an_observation() -> None:
    values = {"theta": torch.arange(12.0).reshape(2, 3, 2)}
    with pytest.raises(PluginError, match="one trust an observation"):
        Draws(values, (GOOD,))
    draws = Draws(values, (GOOD, BAD, WORSE))
    assert (len(draws), draws.count) == (3, 2)
    some = draws.select([2, 0])
    assert some.trust == (WORSE, GOOD)
    assert torch.equal(some.values["theta"], values["theta"][:, [2, 0]])
    joined = Draws.joined([draws.select([0]), draws.select([1, 2])])
    assert joined.trust == draws.trust
    assert torch.equal(joined.values["theta"], values["theta"])


def test_the_worst_of_many() -> None:
    found = {reading.name: reading.value for reading in worst([GOOD, BAD, BETTER])}
    assert found == {"R-hat": 1.5, "ESS": 4, "steps": 7}
    assert worst([GOOD, WORSE, BAD])[0].value is None
    assert worst([WORSE, GOOD])[0].value is None
    assert worst([]) == ()


def test_trust_is_told_on_a_line_each_way() -> None:
    assert announcement("hmc", [GOOD, BAD, BETTER, BAD, WORSE]) == [
        "hmc: not to be called exact for 3 of 5 observations (1, 3-4): "
        "R-hat 1.5 and 1 not finite (wanted at most 1.01), ESS 3 to 4 (wanted at least 400), steps 7",
        "hmc: to be trusted for 2 of 5 observations: "
        "R-hat 1 to 1.004 (wanted at most 1.01), ESS 500 to 900 (wanted at least 400), steps 7",
    ]
    assert in_words([]) == ""


@pytest.mark.parametrize(
    ("numbers", "text"), [([], ""), ([3], "3"), ([0, 1, 2, 7, 9, 10], "0-2, 7, 9-10"), ([4, 6], "4, 6")]
)
def test_neighbours_are_told_together(numbers: list[int], text: str) -> None:
    assert spans(numbers) == text
