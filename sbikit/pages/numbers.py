"""Numbers in words: as many digits as their errors deserve, true minus signs, units of time."""

from __future__ import annotations

import numpy as np


def number(value: float, digits: int = 4) -> str:
    """A number with so many significant digits and a true minus sign."""
    text = f"{value:,.0f}" if float(value).is_integer() and abs(value) < 1e9 else f"{value:.{digits}g}"
    return text.replace("-", "−")


def _places(error: float) -> int:
    """Decimal places that show two significant digits of an error."""
    return max(0, 1 - int(np.floor(np.log10(error))))


def plus_minus(value: float, error: float) -> str:
    """`value ± error`, the error with two significant digits."""
    if error <= 0 or not np.isfinite(error):
        return f"{number(value)} ± {number(error)}"
    places = _places(error)
    if places > 6:
        return f"{value:.3g} ± {error:.2g}".replace("-", "−")
    shown = round(value, places) + 0.0  # no negative zero
    return f"{shown:,.{places}f} ± {error:,.{places}f}".replace("-", "−")


def rounded(value: float, error: float) -> str:
    """A value with the decimal places that its error deserves."""
    return plus_minus(value, error).split(" ± ")[0]


def signed(value: float, places: int = 2) -> str:
    """A number with its sign."""
    return f"{value:+.{places}f}".replace("-", "−")


def duration(seconds: float) -> str:
    """Seconds in the largest two units."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def plural(count: int, one: str) -> str:
    """`1 draw`, `2 draws`."""
    return f"{count:,} {one if count == 1 else one + 's'}"
