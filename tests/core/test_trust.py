"""What samplers say of their draws, kept and told."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from sbikit.problem.errors import PluginError
from sbikit.roles.plugin import Values
from sbikit.roles.sampler import Sampler
from sbikit.roles.trust import announcement, decode, encode, in_words, spans, trust_records, trusted
from sbikit.testing import GaussianVector


@dataclass(frozen=True)
class Found:
    r_hat: tuple[float, ...]
    ess: object
    steps: int
    energy: float | None
    reason: str
    stuck: bool = False

    @property
    def trustworthy(self) -> bool:
        return not self.reason


class Judging(Sampler):
    spec = GaussianVector().spec
    diagnostics: tuple[object, ...] = ()

    def sample(self, observation: Values, n: int, *, seed: int) -> Values:
        raise NotImplementedError


def judging(*found: object) -> Judging:
    sampler = Judging()
    sampler.diagnostics = found
    return sampler


GOOD = Found((1.0, 1.004), np.array([500.0, 900.0]), 7, None, "")
BAD = Found((1.5, float("inf")), torch.tensor([3.0, 4.0]), 9, None, "stuck", stuck=True)


def test_records_are_plain_and_come_back() -> None:
    records = trust_records(judging(GOOD, BAD), 2)
    assert records[0] == {
        "r_hat": [1.0, 1.004],
        "ess": [500.0, 900.0],
        "steps": 7,
        "energy": None,
        "reason": "",
        "stuck": False,
        "trustworthy": True,
    }
    assert records[1]["r_hat"] == [1.5, None]
    assert records[1]["ess"] == [3.0, 4.0]
    assert decode(encode(records)) == records
    assert trusted(records) == [0]


def test_a_sampler_that_judges_nothing_is_trusted() -> None:
    records = trust_records(GaussianVector().exact_sampler(), 3)
    assert records == [{"trustworthy": True}] * 3
    assert announcement("exact", records) == ["exact: to be trusted for 3 of 3 observations"]


@pytest.mark.parametrize("found", [(), (GOOD,), (GOOD, GOOD, GOOD), (GOOD, 3), ("a", "b")])
def test_diagnostics_that_do_not_fit_are_refused(found: tuple[object, ...]) -> None:
    with pytest.raises(PluginError, match="cannot be read") as caught:
        trust_records(judging(*found), 2)
    assert "2 dataclasses" in caught.value.expected


@pytest.mark.parametrize("text", ["{}", "[1]", "[{}]", '[{"trustworthy": 1}]', "["])
def test_text_that_holds_no_records_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"trustworthy|Expecting"):
        decode(text)


def test_records_are_told_on_a_line_each_way() -> None:
    records = trust_records(judging(GOOD, BAD, GOOD, BAD, BAD), 5)
    assert announcement("hmc", records) == [
        "hmc: not to be called exact for 3 of 5 observations (1, 3-4): "
        "r_hat 1.5 and 3 not finite, ess 3 to 4, steps 9, reason stuck, stuck in 3 of 3",
        "hmc: to be trusted for 2 of 5 observations: "
        "r_hat 1 to 1.004, ess 500 to 900, steps 7, stuck in 0 of 2",
    ]
    assert in_words([]) == ""


@pytest.mark.parametrize(
    ("numbers", "text"), [([], ""), ([3], "3"), ([0, 1, 2, 7, 9, 10], "0-2, 7, 9-10"), ([4, 6], "4, 6")]
)
def test_neighbours_are_told_together(numbers: list[int], text: str) -> None:
    assert spans(numbers) == text
