"""What float32 holds: values travel as float32, so spreads far below a value's size lose their digits.

Neighbouring float32 numbers lie 2^-23 apart in units of the power of two below them. A law or an output
whose spread is a few such gaps has a few distinct values left; one beyond 3.4e38 has none.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from sbikit.problem.errors import SpecError
from sbikit.problem.laws import Law, describe_law
from sbikit.problem.supports import innermost

# Gaps between the quartiles. A posterior a hundred times narrower than its prior then still has ten, whose
# rounding widens it by .05 %; a larger value refuses years (2000 +- 1), a smaller one loses posteriors.
LEAST_GAPS = 2**10
LARGEST = float(np.finfo(np.float32).max)
SMALLEST = float(np.finfo(np.float32).tiny)  # normal: smaller ones lose digits, and many processors drop them
_QUARTILE = 0.6744897501960817  # white coordinate
# White coordinate that one draw in 10^12 passes: what lies within has to be a number.
_FARTHEST = 7.0


def gap(size: Tensor) -> Tensor:
    """Distance between the float32 numbers around values of this size, never below the smallest normal, which
    stands for zero, too.
    """
    _, exponent = torch.frexp(size.double().abs().clamp_min(SMALLEST))
    return torch.ldexp(torch.ones_like(size, dtype=torch.float64), exponent - 24).clamp_min(SMALLEST)


def check_law(label: str, law: Law) -> None:
    """Refuse a law whose draws float32 does not tell apart.

    Raises:
        SpecError: there are fewer than 1024 gaps of float32 between its quartiles, or it reaches beyond what
            float32 holds.
    """
    if not all(isinstance(getattr(law, bound, None), float | int) for bound in ("low", "high")):
        raise SpecError(
            "A law needs the bounds of its support.",
            where=f"the law of {label!r}, {type(law).__name__}",
            expected="numbers `low` and `high`, infinite where there is no bound",
            fix="set them in the class or in `__init__`",
        )
    where = f"the law of {label!r}, {describe_law(law)}"
    white = torch.tensor([-_FARTHEST, -_QUARTILE, _QUARTILE, _FARTHEST], dtype=torch.float64)
    low, first, third, high = law.from_white(white).tolist()
    if not low <= first < third <= high:
        raise SpecError(
            "A law must rise with its white coordinate.",
            where=where,
            expected="four numbers that rise",
            got=f"{low:.6g}, {first:.6g}, {third:.6g}, {high:.6g} at z = -7, -.67, .67, 7",
            fix="mend from_white; it works on float64 tensors",
        )
    if max(-low, high) > LARGEST or any(x != 0 and np.float32(x) == 0 for x in (low, high)):
        raise SpecError(
            "A law reaches beyond what float32 holds.",
            where=where,
            expected=f"sizes between {SMALLEST:.3g} and {LARGEST:.3g}",
            got=f"{low:.3g} to {high:.3g}, where all but one draw in 10^12 lie",
            fix="let its logarithm be the parameter, or give it in another unit",
        )
    middle = 0.5 * (first + third)
    gaps = (third - first) / float(gap(torch.tensor(max(abs(first), abs(third)), dtype=torch.float64)))
    if gaps < LEAST_GAPS:
        offset = (
            f"give the parameter as an offset from {middle:.10g}, and add that in the simulator in float64"
        )
        raise SpecError(
            "Numbers in float32 do not resolve a law: its draws would lose their digits.",
            where=where,
            expected=f"a distance between the quartiles of {LEAST_GAPS} gaps between float32 numbers",
            got=f"{gaps:.3g} gaps: quartiles {third - first:.6g} apart at {middle:.10g}",
            fix=offset if abs(middle) > third - first else "give the parameter in another unit",
        )


def round_inside(x: Tensor, low: float, high: float) -> Tensor:
    """The nearest float32 numbers that do not lie beyond `low`..`high`, and never on a bound at zero."""
    least, most = innermost(low, math.inf, bool), innermost(high, -math.inf, bool)
    return x.float().clamp(least, most)
