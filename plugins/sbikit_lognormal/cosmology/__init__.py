"""What a universe is: its parameters and their priors, its expansion and the growth of its matter.

`background` and `growth` hold the equations, `parameters` what a parameter vector says, `prior` how options
become one, `points` fills it, and `coverage` says which universes the emulator of the matter power knows.
"""

from sbikit_lognormal.cosmology.background import HUBBLE_DISTANCE, PARAMETERS, Cosmology, expansion
from sbikit_lognormal.cosmology.coverage import COVERED, LEAST_OMEGA_C, RADIUS
from sbikit_lognormal.cosmology.growth import growth
from sbikit_lognormal.cosmology.parameters import FIXED, Parameters
from sbikit_lognormal.cosmology.points import evenly
from sbikit_lognormal.cosmology.prior import make_parameters

__all__ = [
    "COVERED",
    "FIXED",
    "HUBBLE_DISTANCE",
    "LEAST_OMEGA_C",
    "PARAMETERS",
    "RADIUS",
    "Cosmology",
    "Parameters",
    "evenly",
    "expansion",
    "growth",
    "make_parameters",
]
