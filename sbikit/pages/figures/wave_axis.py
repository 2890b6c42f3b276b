"""How wave numbers and power of a field are labelled: multipoles where its map is one of the sky."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sbikit.fields.spectra import Floats
from sbikit.pages.figures.labels import with_unit
from sbikit.problem.variables import Field

_RADIANS = {"rad": 1.0, "deg": math.pi / 180, "arcmin": math.pi / 180 / 60}


@dataclass(frozen=True)
class WaveAxis:
    """Abscissa and ordinate of a field's power spectrum.

    Args:
        label: of the abscissa.
        power_label: of the ordinate.
        unit: what the field's extent unit is in the unit of the abscissa, whose inverse wave numbers have.
        axes: grid axes of the field, d: power has the unit of the extent to the power of d.
    """

    label: str
    power_label: str
    unit: float
    axes: int

    def position(self, k: Floats) -> Floats:
        """Wave numbers in radians a unit of extent as positions on the abscissa."""
        return k / self.unit

    def power(self, power: Floats) -> Floats:
        """Power in unit^2 extent_unit^d as drawn."""
        return power * self.unit**self.axes


def wave_axis(field: Field) -> WaveAxis:
    """A map whose extent is an angle is one of the flat sky: k in radians is the multipole, P is C_l."""
    radians, axes = _RADIANS.get(field.extent_unit), len(field.grid)
    squared = f"{field.unit}$^2$ " if field.unit else ""
    if radians is not None and axes == 2:
        return WaveAxis(r"multipole $\ell$", with_unit(r"$C_\ell$", f"{squared}sr"), radians, axes)
    volume = field.extent_unit + ("" if axes == 1 else f"$^{axes}$")
    return WaveAxis(
        with_unit("$k$", f"rad/{field.extent_unit}"), with_unit("$P(k)$", squared + volume), 1.0, axes
    )
