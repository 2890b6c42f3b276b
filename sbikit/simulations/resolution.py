"""Whether float32, in which outputs travel, holds what a simulator returned."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sbikit.problem.errors import SimulationError, UnsupportedError
from sbikit.problem.precision import LARGEST, gap
from sbikit.problem.supports import support_bounds
from sbikit.problem.variables import Variable, Vector

# Gaps between float32 numbers in a standard deviation. Where a simulator computes in float64, fewer would
# throw digits away: 512 leave a posterior a hundred times narrower five. Where it computes in float32, its
# own rounding is part of the data; fewer than 16 are a mistake of offset.
_LEAST_GAPS = {torch.float64: 512.0, torch.float32: 16.0}
# Below this much of a value's size float64 rounds, and below so many gaps float32: a constant.
_ROUNDING, _ROUNDING_GAPS = 1e-12, 2.0
_FAR = 30.0  # standard deviations: with one in ten so far, nine look a tenth as wide as they are
_FEWEST, _MOST = 8, 64  # draws: fewer tell no spread, and more no more of it


def check_resolution(variable: Variable, raw: Tensor, *, first: int, where: str) -> None:
    """Refuse outputs (B, *shape), as they were returned, that float32 does not hold.

    The spread is looked at in the first draws of a stream alone, so that no run stops halfway for a figure
    that varies from batch to batch.

    Args:
        variable: what they are.
        raw: as the simulator returned them, of any type; values that are not finite are left to others.
        first: index of the first draw.
        where: for messages.

    Raises:
        SimulationError: they are too large, vary too little for their size, or lie outside of their support.
    """
    if raw.dtype not in _LEAST_GAPS:
        raw = raw.to(torch.float32 if raw.dtype.is_floating_point else torch.float64)
    if not raw.numel():
        return
    low, high = (float(end) for end in raw.aminmax())  # NaN where there is one
    if not (math.isfinite(low) and math.isfinite(high)):
        return
    if (largest := max(-low, high)) > LARGEST:
        raise SimulationError(
            f"Values of {variable.name!r} are too large for float32.",
            where=where,
            expected=f"at most {LARGEST:.3g}",
            got=f"{largest:.3g}",
            fix="return it in another unit, or its logarithm",
        )
    _check_support(variable, raw, (low, high), where)
    if first == 0 and len(raw) >= _FEWEST:
        _check_spread(variable, raw[:_MOST], where)


def check_fill(variable: Variable, raw: Tensor, seen: Tensor, where: str) -> None:
    """Refuse a value for missing numbers that is nothing like those that are seen: in its units they would
    all be the same.

    Args:
        variable: whose numbers can be missing.
        raw: (B, *shape), with its `fill` where they are.
        seen: of the same shape, 0 there.
        where: for messages.

    Raises:
        SimulationError: it is too far from them.
    """
    for part, fill in enumerate(variable.fills):
        values = raw[:, part][seen[:, part] > 0.0].double()
        if len(values) < _FEWEST:
            continue
        middle, spread = float(values.median()), float(values.std())
        if abs(fill - middle) > _FAR * spread > 0.0:
            name = variable.labels[part] if isinstance(variable, Vector) else f"channel {part + 1}"
            raise SimulationError(
                f"What stands for missing values of {variable.name!r} is far from those that are seen.",
                where=f"{name} in {where}",
                expected=f"within {_FAR:.0f} standard deviations: {middle:.6g} +- {spread:.3g}",
                got=f"fill={fill:.6g}",
                fix=f"declare fill={middle:.6g} for it",
            )


def _check_spread(variable: Variable, raw: Tensor, where: str) -> None:
    x = raw.double()
    sd, size = x.std(0), x.abs().amax(0)
    gaps = sd / gap(size)
    varies = sd > _ROUNDING * size if raw.dtype == torch.float64 else gaps > _ROUNDING_GAPS
    for part in range(variable.shape[0]):
        some = varies[part]
        if bool(some.any()):
            found, least = gaps[part][some].median(), _LEAST_GAPS[raw.dtype]
            if found < least:
                name = variable.labels[part] if isinstance(variable, Vector) else f"channel {part + 1}"
                raise _unresolved(variable, x[:, part][:, some], float(found), least, f"{name} in {where}")


def _unresolved(variable: Variable, x: Tensor, found: float, least: float, where: str) -> SimulationError:
    """Of values x (B, pixels)."""
    middle, spread = float(x.mean()), float(x.std(0).median())
    return SimulationError(
        f"Numbers in float32 do not resolve {variable.name!r}: its digits would be lost.",
        where=where,
        expected=f"a standard deviation of {least:.0f} gaps between float32 numbers",
        got=f"{found:.3g} gaps: a standard deviation of {spread:.3g} around {middle:.10g}",
        fix=f"subtract {middle:.10g} from it in float64"
        if abs(middle) > spread
        else "return it in another unit",
    )


def _check_support(variable: Variable, raw: Tensor, found: tuple[float, float], where: str) -> None:
    """Only supports that are intervals are looked at; their bounds belong to them here.

    Args:
        variable: what is checked.
        raw: its values.
        found: the least and the largest of them.
        where: for messages.
    """
    try:
        bounds = support_bounds(variable.name, variable.support)
    except UnsupportedError:
        return
    # Bounds and values in float32: a value that rounding takes to the bound lies on it.
    least, most = torch.tensor(bounds, dtype=torch.float32)
    low, high = torch.tensor(found, dtype=torch.float32)
    if low >= least and high <= most:
        return
    outside = ((raw.float() < least) | (raw.float() > most)).float().mean()
    raise SimulationError(
        f"Values of {variable.name!r} lie outside of its support.",
        where=where,
        expected=f"{bounds[0]:g} to {bounds[1]:g}",
        got=f"{found[0]:.6g} to {found[1]:.6g}, {100.0 * float(outside):.2g} % of them outside",
        fix="mend the simulator, or declare another support",
    )
