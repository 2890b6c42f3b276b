"""Log-normal weak lensing maps of a wCDM universe on a flat sky.

`simulator` is the face; behind it are rooms, each of which says what it holds. Imports go one way, down:

    simulator
    posterior                   densities of parameters and maps given data    | build: makes the tables
    chain                       from options to data, put together             |
    spectra | field | survey    power spectra; random maps; what a survey sees
    cosmology                   parameters and their priors, expansion, growth
    options | chebyshev         what a user may set; polynomials
"""

from __future__ import annotations

from sbikit import Offer, hookimpl


@hookimpl
def sbikit_simulators() -> list[Offer]:
    """The log-normal weak lensing simulator."""
    return [
        Offer(
            "lognormal",
            "sbikit_lognormal.simulator:LogNormal",
            "wCDM weak lensing: log-normal convergence on a flat sky, seen as noisy shear",
            options="sbikit_lognormal.options:LogNormalOptions",
        )
    ]
