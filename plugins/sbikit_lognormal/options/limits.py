"""What the tables and grids of this plug-in are made for; options beyond are refused."""

from __future__ import annotations

Z_MAX = 5.0
"""The largest redshift of a source. Of the default distribution 0.1 % of the galaxies lie beyond."""

LOWEST_PLANE, HIGHEST_PLANE = 0.05, 4.9
"""Where source planes may lie: nearer the matter power is not known to a per cent, further nothing is."""

MAX_PHOTO_Z_SHIFT = 0.1
"""The largest shift of a bin's redshifts, to either side: five times a wide prior of surveys, sd .02."""

LOG_T_AGN = (7.3, 8.4)
"""Temperatures of the feedback that the emulator covers, log10 K; Mead et al. (2021) fitted 7.6 to 8.0."""

SMALLEST_PIXEL = 1.1
"""The smallest side of a pixel in arcmin: aliases of its modes reach the last multipoles of the spectra."""
