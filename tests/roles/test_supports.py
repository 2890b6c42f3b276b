"""Capabilities: methods of a class, and nothing else of their name."""

from __future__ import annotations

from sbikit import SupportsFacts, SupportsFloor, SupportsMasks, Values, supports
from sbikit.testing import GaussianVector


class Floored(GaussianVector):
    facts = {"stationary": True}
    masks = None

    def floor(self, parameters: Values) -> Values:
        return {}


def test_a_method_is_a_capability_and_an_attribute_of_its_name_is_none() -> None:
    one = Floored()
    assert supports(one, SupportsFloor)
    assert not supports(one, SupportsFacts)
    assert not supports(one, SupportsMasks)
    one.masks = lambda: {}  # type: ignore[assignment]
    assert not supports(one, SupportsMasks)
