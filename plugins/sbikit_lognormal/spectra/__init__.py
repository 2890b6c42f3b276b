"""From parameters to convergence spectra: sources, the matter power, the Limber sum and the shift.

`emulator` gives the matter power on the redshifts and multipoles of `grid`, `limber` sums it over `sources`,
`shifts` and its neighbours give the depth of the log-normal field; `theory` puts them together and
`polynomials` is the same, faster. `choice` picks what the options ask for.
"""

from sbikit_lognormal.spectra.choice import make_spectra
from sbikit_lognormal.spectra.distributions import Sources
from sbikit_lognormal.spectra.emulator import Emulator
from sbikit_lognormal.spectra.grid import ELL, WEIGHTS, Z
from sbikit_lognormal.spectra.hilbert import Hilbert2011, hilbert2011
from sbikit_lognormal.spectra.limber import Limber
from sbikit_lognormal.spectra.polynomials import PolynomialSpectra, fastest
from sbikit_lognormal.spectra.process import Fit, inputs, matern, quadratic
from sbikit_lognormal.spectra.shifts import Fixed, Shift, Unbounded
from sbikit_lognormal.spectra.source_tables import read_sources, source_planes
from sbikit_lognormal.spectra.sources import (
    binned_sources,
    equal_sources,
    make_sources,
)
from sbikit_lognormal.spectra.table import BUILD, QUANTITIES, TABLE, MatterTable, shipped_table
from sbikit_lognormal.spectra.tabulated_shift import TabulatedShift
from sbikit_lognormal.spectra.theory import DirectSpectra, Spectra
from sbikit_lognormal.spectra.tree_level import TreeLevel, disc_of_pixel

__all__ = [
    "BUILD",
    "ELL",
    "QUANTITIES",
    "TABLE",
    "WEIGHTS",
    "DirectSpectra",
    "Emulator",
    "Fit",
    "Fixed",
    "Hilbert2011",
    "Limber",
    "MatterTable",
    "PolynomialSpectra",
    "Shift",
    "Sources",
    "Spectra",
    "TabulatedShift",
    "TreeLevel",
    "Unbounded",
    "Z",
    "binned_sources",
    "disc_of_pixel",
    "equal_sources",
    "fastest",
    "hilbert2011",
    "inputs",
    "make_sources",
    "make_spectra",
    "matern",
    "quadratic",
    "read_sources",
    "shipped_table",
    "source_planes",
]
