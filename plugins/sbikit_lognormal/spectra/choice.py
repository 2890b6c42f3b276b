"""The spectra and the shift that the options choose."""

from __future__ import annotations

import math

import torch

from sbikit_lognormal.cosmology import Parameters
from sbikit_lognormal.options import LogNormalOptions, ShiftTable
from sbikit_lognormal.spectra.emulator import Emulator
from sbikit_lognormal.spectra.hilbert import Hilbert2011
from sbikit_lognormal.spectra.limber import Limber
from sbikit_lognormal.spectra.polynomials import fastest
from sbikit_lognormal.spectra.shifts import Fixed, Shift, Unbounded
from sbikit_lognormal.spectra.sources import Sources
from sbikit_lognormal.spectra.tabulated_shift import TabulatedShift
from sbikit_lognormal.spectra.theory import DirectSpectra, Spectra
from sbikit_lognormal.spectra.tree_level import TreeLevel, disc_of_pixel


def make_spectra(
    options: LogNormalOptions, parameters: Parameters, sources: Sources, device: torch.device
) -> Spectra:
    """The fastest way to the spectra and shifts of these sources.

    Raises:
        OptionError: the shift does not fit the bins, or cannot be read.
    """
    limber = Limber(sources, device, aligned=parameters.aligned)
    return fastest(DirectSpectra(parameters, limber, _shift(options, limber), Emulator(device=device)))


def _shift(options: LogNormalOptions, limber: Limber) -> Shift:
    bins, device = limber.bins, limber.z.device
    if options.field == "gaussian":
        return Unbounded()
    if options.shift == "hilbert2011":
        return Hilbert2011(limber)
    if options.shift == "tree-level":
        return TreeLevel(limber, disc_of_pixel(math.radians(options.extent) / options.size))
    if isinstance(options.shift, ShiftTable):
        return TabulatedShift(options.shift.table, bins, device)
    values = options.shift if isinstance(options.shift, tuple) else (float(options.shift),) * bins
    return Fixed(values, bins, device)
