"""What `benchmarks/_speed.py` makes of the seconds that it measured."""

from __future__ import annotations

from typing import Any

import pytest

MEASURED = {"product": 0.02, "hmc": 4.0, "draw": 0.04, "draw error": 0.001}
LOWER = {"draw in bfloat16": 0.025, "draw in bfloat16 error": 0.0005}


def told(found: dict[str, float]) -> dict[str, tuple[float, float | None]]:
    from _speed import tell_speed

    heard: dict[str, tuple[float, float | None]] = {}

    def hear(name: str, value: float, error: float | None, **_: Any) -> None:
        heard[name] = value, error

    tell_speed(found, hear)
    return heard


def test_ratios_are_of_the_same_hmc() -> None:
    """40 and 25 ms a draw are 25 and 40 draws a second, beside 4 of hmc."""
    heard = told(MEASURED | LOWER)
    assert heard["joint draws a CPU second over hmc's"] == pytest.approx((6.25, 6.25 / 40))
    assert heard["joint draws a CPU second over hmc's with --precision auto"] == pytest.approx((10.0, 0.2))
    assert heard["CPU ms of a joint draw"] == pytest.approx((40.0, 1.0))
    assert heard["CPU ms of a joint draw with --precision auto"] == pytest.approx((25.0, 0.5))


def test_what_was_not_measured_is_not_told() -> None:
    assert not [name for name in told(MEASURED) if "precision" in name]
    assert not [name for name in told(MEASURED | {"hmc": 0.0}) if "over hmc" in name]
