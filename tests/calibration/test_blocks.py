"""What a validator finds depends neither on where draws lie nor on how many are read at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor

from sbikit import Evidence, StoredDraws, Validator, Values
from sbikit.roles import stored_draws
from sbikit.testing import GaussianField, GaussianFieldOptions, gather_evidence
from sbikit_calibration.agreement.options import AgreementOptions
from sbikit_calibration.agreement.validator import Agreement
from sbikit_calibration.coverage.mira import Mira
from sbikit_calibration.coverage.tarp import Tarp
from sbikit_calibration.ranks.intervals import Coverage
from sbikit_calibration.ranks.sbc import Sbc

VALIDATORS = {
    "sbc": Sbc,
    "coverage": Coverage,
    "mira": Mira,
    "tarp": Tarp,
    "agreement": lambda: Agreement(AgreementOptions(c2st_observations=0)),
}
OBSERVATIONS = 24


class Disk(StoredDraws):
    """Draws that are handed out in memory of their own, and remember how many bytes at once."""

    def __init__(self, values: Values) -> None:
        self.values, self.most = values, 0

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(value.shape) for name, value in self.values.items()}

    def block(self, names: Sequence[str], first: int, last: int) -> dict[str, Tensor]:
        found = {name: self.values[name][:, first:last].clone() for name in names}
        self.most = max(self.most, sum(4 * value.numel() for value in found.values()))
        return found


@cache
def evidence() -> Evidence:
    """Of a toy whose fields are rounded, so that ties are decided by chance."""
    toy = GaussianField(GaussianFieldOptions(size=8))
    exact = toy.exact_sampler()
    found = gather_evidence(toy, exact, observations=OBSERVATIONS, draws=16, training=64, reference=exact)

    def rounded(values: Values) -> dict[str, Tensor]:
        return {
            name: value.mul(5).round().div(5) if name == "field" else value for name, value in values.items()
        }

    comparison = replace(
        found.comparison, exact=rounded(found.comparison.exact), draws=rounded(found.comparison.draws)
    )
    return replace(found, truth=rounded(found.truth), draws=rounded(found.draws), comparison=comparison)


def on_disk() -> Evidence:
    whole = evidence()
    comparison = replace(
        whole.comparison, exact=Disk(whole.comparison.exact), draws=Disk(whole.comparison.draws)
    )
    return replace(whole, draws=Disk(whole.draws), comparison=comparison)


@pytest.mark.parametrize("name", VALIDATORS)
def test_reports_are_the_same_to_the_bit(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    validator: Validator = VALIDATORS[name]()
    expected = validator.validate(evidence(), seed=3)
    an_observation = 16 * (64 + 2) * 4
    for rows in (1, 7, OBSERVATIONS):
        monkeypatch.setattr(stored_draws, "BLOCK_BYTES", rows * an_observation)
        assert validator.validate(evidence(), seed=3) == expected
        given = on_disk()
        assert validator.validate(given, seed=3) == expected
        read = given.comparison.draws if name == "agreement" else given.draws
        assert 0 < read.most <= rows * an_observation


@pytest.mark.parametrize("rows", [1, 7, OBSERVATIONS])
@pytest.mark.parametrize("kind", ["truths", "draws", "known"])
def test_what_does_not_vary_is_found_block_by_block(
    monkeypatch: pytest.MonkeyPatch, rows: int, kind: str
) -> None:
    monkeypatch.setattr(stored_draws, "BLOCK_BYTES", rows * 16 * 2 * 4)
    whole = evidence()
    truth, draws = (
        {name: value.clone() for name, value in part.items()} for part in (whole.truth, whole.draws)
    )
    if kind == "truths":
        truth["theta"][:, 1] = 2.0
    draws["theta"][..., 1] = truth["theta"][:, 1] if kind == "known" else 2.0
    given = {"spec": whole.spec, "truth": truth, "observation": whole.observation, "training": whole.training}
    found, left_out = Evidence.judgeable(**given, draws=Disk(draws))
    expected, the_same = Evidence.judgeable(**given, draws=draws)
    assert left_out == the_same
    assert [(part.name, part.why) for part in left_out] == [("theta.slope", kind)]
    assert found.spec == expected.spec
    assert torch.equal(found.draws["theta"], draws["theta"][..., :1])
    assert Coverage().validate(found, seed=1) == Coverage().validate(expected, seed=1)
