"""Random convergence maps of given spectra on a flat sky, pixels and modes; it knows no cosmology.

`pixels` and `power` take spectra to power, `roots` and `white` white numbers to Gaussian modes; `lognormal`
and `gaussian` are the two laws of a `random_field`. `blocks` draws so that a draw is the same in any batch.
"""

from sbikit_lognormal.field.blocks import block_rows, in_blocks
from sbikit_lognormal.field.gaussian import GaussianConvergence
from sbikit_lognormal.field.lognormal import LogNormalConvergence
from sbikit_lognormal.field.pixels import Pixels, correlation_matrix, power_matrix
from sbikit_lognormal.field.power import ModePower
from sbikit_lognormal.field.quadrant import multiplicity
from sbikit_lognormal.field.random_field import Gaussian, LinearModes, RandomField
from sbikit_lognormal.field.white import white_modes, white_numbers

__all__ = [
    "Gaussian",
    "GaussianConvergence",
    "LinearModes",
    "LogNormalConvergence",
    "ModePower",
    "Pixels",
    "RandomField",
    "block_rows",
    "correlation_matrix",
    "in_blocks",
    "multiplicity",
    "power_matrix",
    "white_modes",
    "white_numbers",
]
