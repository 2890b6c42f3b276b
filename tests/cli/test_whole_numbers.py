"""Whole numbers on the command line: all digits of what is written, or a refusal."""

from __future__ import annotations

import pytest
import typer

from sbikit.cli.whole_numbers import whole_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1000", 1000),
        ("1e3", 1000),
        ("2.5e3", 2500),
        ("-3", -3),
        ("1e23", 10**23),
        ("9007199254740993.0", 9007199254740993),  # 2^53 + 1, which no float holds
        (7, 7),
    ],
)
def test_every_digit_counts(text: str | int, number: int) -> None:
    assert whole_number()(text) == number


@pytest.mark.parametrize("text", ["1.5", "1e-1", "nan", "inf", "ten", "", "1e999999999", "9" * 5000])
def test_what_is_no_whole_number_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="no whole number"):
        whole_number()(text)


@pytest.mark.parametrize("text", ["0", "101", "1e23"])
def test_bounds_are_said(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="not between 1 and 100"):
        whole_number(1, 100)(text)
