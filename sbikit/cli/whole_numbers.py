"""Whole numbers as they are written on a command line: 1000 and 1e3, not 1.5."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, InvalidOperation

import typer

_DIGITS = 25  # more than any whole number here has, and few enough to be written out


def whole_number(least: int | None = None, most: int | None = None) -> Callable[[str], int]:
    """A parser of whole numbers between two bounds, where there are any."""

    def parse(text: str | int) -> int:
        found = _whole(str(text))
        if found is None:
            raise typer.BadParameter(f"{text!r} is no whole number.")
        if (least is not None and found < least) or (most is not None and found > most):
            raise typer.BadParameter(f"{text} is not between {least} and {most}.")
        return found

    return parse


def _whole(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        number = Decimal(text)  # exact, where a float makes 99999999999999991611392 of 1e23
    except InvalidOperation:
        return None
    whole = number.is_finite() and number.adjusted() < _DIGITS and number == number.to_integral_value()
    return int(number) if whole else None
