"""Checks with the budget that a plug-in declares for them: what is replaced, and that nothing is missed."""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import Field as Option
from pydantic import model_validator

from sbikit import (
    Draws,
    ExactSampler,
    Monitor,
    Options,
    QuietMonitor,
    Sampler,
    Simulator,
    Trust,
    UnsupportedError,
    Values,
)
from sbikit.testing import ContractError, GaussianVector, Spoiled, check_exact_sampler
from sbikit.testing.short import short


class Budget(Options):
    draws: int = Option(default=1000, ge=10)
    most: int = Option(default=4000, ge=10)

    @model_validator(mode="after")
    def _most_is_not_least(self) -> Self:
        if self.most < self.draws:
            raise ValueError("most must be at least draws")
        return self


class Long(ExactSampler[Budget]):
    """Some options that belong together."""

    for_checks: ClassVar = {"draws": 20, "most": 50}

    def posterior(self, simulator: Simulator, *, monitor: Monitor, device: object = "cpu") -> Sampler:
        raise UnsupportedError("Nobody asks.")


class Misspelt(Long):
    for_checks: ClassVar = {"draw": 20}


class TooFew(Long):
    for_checks: ClassVar = {"draws": 2}


@pytest.mark.parametrize(
    ("given", "draws", "most"),
    [
        (None, 20, 50),
        (Budget(), 20, 50),
        (Budget(most=5000), 20, 5000),
        (Budget(draws=1000, most=4000), 1000, 4000),  # the defaults, but asked for
        (Budget(draws=300), 300, 4000),  # at most 50 of at least 300 draws: neither is replaced
    ],
)
def test_what_is_not_given_is_replaced(given: Budget | None, draws: int, most: int) -> None:
    options = short(Long(given)).options
    assert (options.draws, options.most) == (draws, most)


def test_without_a_declaration_nothing_is_replaced() -> None:
    class Plain(Long):
        for_checks: ClassVar = {}

    plain = Plain()
    assert short(plain) is plain


@pytest.mark.parametrize(("wrong", "message"), [(Misspelt, "draw"), (TooFew, "draws")])
def test_a_wrong_declaration_is_named(wrong: type[Long], message: str) -> None:
    with pytest.raises(ContractError, match=message) as caught:
        short(wrong())
    assert "for_checks" in caught.value.where


class OfBudget(ExactSampler[Budget]):
    """Of vectors alone; subclasses change what comes of a long and of a short budget."""

    for_checks: ClassVar = {"draws": 20}

    def posterior(self, simulator: Simulator, *, monitor: Monitor, device: object = "cpu") -> Sampler:
        if not isinstance(simulator, GaussianVector):
            raise UnsupportedError("Of vectors alone.")
        exact = simulator.exact_sampler()
        return self.short(exact) if self.options.draws == 20 else self.long(exact)

    def short(self, exact: Sampler) -> Sampler:
        return exact

    def long(self, exact: Sampler) -> Sampler:
        return exact


class Unsure(Sampler):
    """Right draws that nobody is to trust."""

    def __init__(self, exact: Sampler) -> None:
        self._exact, self.spec = exact, exact.spec

    def sample(self, observation: Values, n: int, *, seeds: NDArray[np.int64]) -> Draws:
        values = self._exact.sample(observation, n, seeds=seeds).values
        return Draws(values, (Trust(False, (), ("too few",)),) * len(seeds))


class OfTheRow(Sampler):
    """Seeds that depend on the place in a batch."""

    def __init__(self, exact: Sampler) -> None:
        self._exact, self.spec = exact, exact.spec

    def sample(self, observation: Values, n: int, *, seeds: NDArray[np.int64]) -> Draws:
        return self._exact.sample(observation, n, seeds=seeds + np.arange(len(seeds)))


class NeedsItsTime(OfBudget):
    def short(self, exact: Sampler) -> Sampler:
        return Unsure(exact)


class LiesAfterLongWork(OfBudget):
    def short(self, exact: Sampler) -> Sampler:
        return Unsure(exact)

    def long(self, exact: Sampler) -> Sampler:
        return Spoiled(exact, scale=2.0)


class MixesRows(OfBudget):
    def short(self, exact: Sampler) -> Sampler:
        return OfTheRow(exact)


class Heard(QuietMonitor):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def test_exactness_is_judged_with_the_options_as_they_are() -> None:
    monitor = Heard()
    check_exact_sampler(NeedsItsTime(), monitor=monitor)
    assert monitor.said == []
    with pytest.raises(ContractError, match="called trustworthy that are not"):
        check_exact_sampler(LiesAfterLongWork())


def test_what_draws_depend_on_is_seen_in_short_work() -> None:
    with pytest.raises(ContractError, match="alone and in a batch"):
        check_exact_sampler(MixesRows())
    check_exact_sampler(MixesRows(Budget(draws=1000)))  # its long work keeps the promise
