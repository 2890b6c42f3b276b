"""What a user may set, and in which ranges: the options of the simulator, each with its description.

`simulator` holds them all; `sources`, `survey` and `laws` the models of single ones, `limits` what the tables
are made for, `refusals` what does not go together.
"""

from sbikit_lognormal.options.laws import NormalLaw, Nuisance, PerBin, UniformLaw
from sbikit_lognormal.options.limits import (
    HIGHEST_PLANE,
    LOG_T_AGN,
    LOWEST_PLANE,
    MAX_PHOTO_Z_SHIFT,
    SMALLEST_PIXEL,
    Z_MAX,
)
from sbikit_lognormal.options.refusals import check_options, per_bin, refuse_idle
from sbikit_lognormal.options.simulator import LogNormalOptions, ShiftTable
from sbikit_lognormal.options.sources import Rows, SourceOptions
from sbikit_lognormal.options.survey import DepthFile, MaskFile, StarMask, VaryingDepth

__all__ = [
    "HIGHEST_PLANE",
    "LOG_T_AGN",
    "LOWEST_PLANE",
    "MAX_PHOTO_Z_SHIFT",
    "SMALLEST_PIXEL",
    "Z_MAX",
    "DepthFile",
    "LogNormalOptions",
    "MaskFile",
    "NormalLaw",
    "Nuisance",
    "PerBin",
    "Rows",
    "ShiftTable",
    "SourceOptions",
    "StarMask",
    "UniformLaw",
    "VaryingDepth",
    "check_options",
    "per_bin",
    "refuse_idle",
]
