"""What the options describe, before a precision or a device is chosen."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sbikit import Prior
from sbikit_lognormal.cosmology import Parameters, make_parameters
from sbikit_lognormal.field import Pixels
from sbikit_lognormal.options import LogNormalOptions, check_options, per_bin
from sbikit_lognormal.spectra import Sources, make_sources
from sbikit_lognormal.survey import OBSERVABLES, Observable, Survey, make_survey


@dataclass(frozen=True, eq=False)
class Model:
    """The parts that all precisions and devices share.

    Args:
        options: what a user set.
        sources: redshifts of the source galaxies.
        parameters: what a parameter vector means.
        survey: noise and mask, float64 on the CPU.
        observable: what is seen.
    """

    options: LogNormalOptions
    sources: Sources
    parameters: Parameters
    survey: Survey
    observable: Observable

    @property
    def prior(self) -> Prior:
        """Laws of the parameters."""
        return self.parameters.prior

    @property
    def bins(self) -> int:
        """Source bins."""
        return self.sources.bins

    @property
    def size(self) -> int:
        """Pixels a side of the patch, N."""
        return self.options.size

    @property
    def box(self) -> int:
        """Pixels a side of the periodic box, M."""
        return self.options.size * self.options.padding

    @property
    def summaries(self) -> tuple[str, ...]:
        """Names of the maps that are made back from the data; quadratic forms are no map."""
        if self.observable.name != "shear":
            return ()
        return ("kappa_ks", "kappa_wiener") if self.options.wiener else ("kappa_ks",)

    @property
    def pixels(self) -> Pixels:
        """Those of the box."""
        side = math.radians(self.options.extent * self.options.padding)
        return Pixels(self.box, side, window=self.options.pixel_window)


def make_model(options: LogNormalOptions) -> Model:
    """What the options describe.

    Raises:
        OptionError: the prior leaves what the emulator covers, the pixels are too small, or options do not
            fit each other.
    """
    sources = make_sources(options.sources)
    bins = sources.bins
    check_options(options, bins)
    parameters = make_parameters(options, bins)
    n_gal = options.n_gal if isinstance(options.n_gal, tuple) else options.n_gal * (1.0 / bins)
    survey = make_survey(
        options.size,
        options.extent,
        per_bin("n_gal", n_gal, bins),
        per_bin("sigma_e", options.sigma_e, bins),
        mask=options.mask,
        depth=options.depth,
    )
    return Model(options, sources, parameters, survey, OBSERVABLES[options.observes])
