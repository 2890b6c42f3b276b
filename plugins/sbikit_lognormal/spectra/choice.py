"""The spectra and the shift that the options choose."""

from __future__ import annotations

import math

import torch

from sbikit import OptionError
from sbikit_lognormal.cosmology import Parameters
from sbikit_lognormal.options import LogNormalOptions, ShiftTable
from sbikit_lognormal.spectra.distributions import Sources
from sbikit_lognormal.spectra.emulator import Emulator
from sbikit_lognormal.spectra.hilbert import Hilbert2011
from sbikit_lognormal.spectra.limber import Limber
from sbikit_lognormal.spectra.polynomials import fastest
from sbikit_lognormal.spectra.shifts import Fixed, Shift, Unbounded
from sbikit_lognormal.spectra.tabulated_shift import TabulatedShift
from sbikit_lognormal.spectra.theory import DirectSpectra, Spectra
from sbikit_lognormal.spectra.tree_level import TreeLevel, disc_of_pixel

_NARROWEST = 0.003  # of no survey are bins nearly as narrow; source planes have up to .002 (source_tables.py)


def make_spectra(
    options: LogNormalOptions, parameters: Parameters, sources: Sources, device: torch.device
) -> Spectra:
    """The fastest way to the spectra and shifts of these sources.

    Raises:
        OptionError: the shift does not fit the bins, or cannot be read; galaxies at one redshift are aligned.
    """
    if parameters.aligned:
        _refuse_aligned_planes(sources)
    limber = Limber(sources, device, aligned=parameters.aligned)
    return fastest(DirectSpectra(parameters, limber, _shift(options, limber), Emulator(device=device)))


def _refuse_aligned_planes(sources: Sources) -> None:
    """The power of their alignment is the integral of n_i^2."""
    narrow = sources.width < _NARROWEST
    if not narrow.any():
        return
    raise OptionError(
        "Alignments of galaxies that are all at one redshift have infinite power.",
        where="simulator.a_ia, simulator.sources",
        expected=f"bins of a scatter in redshift of {_NARROWEST:g} or more, or no alignments",
        got=f"{sources.width.min():.2g} in bin {int(sources.width.argmin()) + 1}",
        fix="leave a_ia out, or give these galaxies a distribution",
    )


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
