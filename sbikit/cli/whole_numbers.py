"""Whole numbers as they are written on a command line: 1000 and 1e3, not 1.5."""

from __future__ import annotations

from collections.abc import Callable

import typer


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
        number = float(text)
    except ValueError:
        return None
    return int(number) if number.is_integer() else None
