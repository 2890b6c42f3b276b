"""The parameters that the options describe, and their prior."""

from __future__ import annotations

import math
from collections.abc import Mapping

from sbikit import Law, OptionError, Prior, TruncatedNormal, Uniform
from sbikit_lognormal.cosmology.background import PARAMETERS
from sbikit_lognormal.cosmology.coverage import (
    COVERED,
    LEAST_OMEGA_C,
    refuse_uncovered,
    refuse_uncovered_laws,
)
from sbikit_lognormal.cosmology.parameters import Parameters
from sbikit_lognormal.cosmology.placement import Placement
from sbikit_lognormal.options import LOG_T_AGN, MAX_PHOTO_Z_SHIFT, LogNormalOptions, refuse_idle

_LATEX = {
    "Omega_m": r"\Omega_{\rm m}",
    "S8": "S_8",
    "w0": "w_0",
    "omega_c": r"\Omega_{\rm c}",
    "omega_b": r"\Omega_{\rm b}",
    "sigma_8": r"\sigma_8",
    "h": "h",
    "n_s": "n_{\\rm s}",
    "w_0": "w_0",
    "A_IA": r"A_{\rm IA}",
    "eta_IA": r"\eta_{\rm IA}",
    "log_T_AGN": r"\log T_{\rm AGN}",
}
_UNBOUNDED = (-math.inf, math.inf)
_BIAS = (-0.99, math.inf)  # at -1 the data say nothing of the convergence, below they have its sign turned
_RANGES = ("omega_m", "s8", "w0")


def make_parameters(options: LogNormalOptions, bins: int) -> Parameters:
    """The parameters that the options describe.

    Raises:
        OptionError: a law leaves what the spectra are made for, or does not fit the bins.
    """
    placed = Placement({}, {})
    _place_cosmology(placed, options)
    _place_lensing(placed, options, bins)
    lensing = len(placed.laws)
    placed.place_bins("m", "shear_bias", options.shear_bias, bins, _BIAS)
    _refuse_no_law(placed.laws)
    made = Parameters(Prior(placed.laws, latex=_latex(placed.laws)), placed.fixed, bins, lensing)
    if any(getattr(options, name) is not None for name in PARAMETERS):
        refuse_uncovered_laws(made)
    return made


def _place_cosmology(placed: Placement, options: LogNormalOptions) -> None:
    if options.prior == "wcdm":
        why = "Ranges of the prior s8 are given, but the prior is wcdm."
        refuse_idle(options, _RANGES, why, fix="leave them out, or choose prior: s8")
        _place_wcdm(placed, options)
    else:
        why = "Laws of the prior wcdm are given, but the prior is s8."
        refuse_idle(options, PARAMETERS, why, fix="leave them out, or choose prior: wcdm")
        placed.laws.update(_s8_laws(options))


def _s8_laws(options: LogNormalOptions) -> dict[str, Law]:
    """Omega_m, S8 and w0."""
    ranges = {"Omega_m": options.omega_m, "S8": options.s8, "w0": options.w0}
    for name, (low, high) in ranges.items():
        if not low < high or (name != "w0" and low <= 0.0):
            raise OptionError(
                f"The prior of {name} is empty or not positive.",
                where=f"simulator.{name.lower()}",
                expected="a lower bound below the upper one" + ("" if name == "w0" else ", above 0"),
                got=f"{low:g} to {high:g}",
                fix="correct the bounds",
            )
    refuse_uncovered(ranges)
    return {name: Uniform(*bounds) for name, bounds in ranges.items()}


def _place_wcdm(placed: Placement, options: LogNormalOptions) -> None:
    """The prior of JADE and sbi_lens, but for universes with little dark matter or none, and given laws."""
    laws = dict(COVERED.laws)
    laws["omega_c"] = TruncatedNormal(0.2664, 0.2, LEAST_OMEGA_C, 0.9)
    for name, law in laws.items():
        given = getattr(options, name)
        if given is None:
            placed.laws[name] = law
        else:
            placed.place(name, name, given, (law.low, law.high))


def _place_lensing(placed: Placement, options: LogNormalOptions, bins: int) -> None:
    """Alignments, feedback and photometric redshifts."""
    placed.place("A_IA", "a_ia", options.a_ia, _UNBOUNDED)
    placed.place("eta_IA", "eta_ia", options.eta_ia, _UNBOUNDED)
    if options.baryons is not None:
        placed.place("log_T_AGN", "baryons", options.baryons, LOG_T_AGN)
    limits = (-MAX_PHOTO_Z_SHIFT, MAX_PHOTO_Z_SHIFT)
    placed.place_bins("dz", "photo_z_shift", options.photo_z_shift, bins, limits)
    if placed.fixed.get("A_IA") == 0.0 and ("eta_IA" in placed.laws or placed.fixed["eta_IA"] != 0.0):
        raise OptionError(
            "There is a slope of intrinsic alignments but no alignment.",
            where="simulator.eta_ia",
            expected="an amplitude a_ia that is free or not 0",
            got=f"a_ia {options.a_ia}, eta_ia {options.eta_ia}",
            fix="give a_ia, or leave out eta_ia",
        )


def _refuse_no_law(laws: Mapping[str, Law]) -> None:
    if not laws:
        raise OptionError(
            "No parameter is free.",
            where=", ".join(f"simulator.{name}" for name in PARAMETERS),
            expected="the law of one parameter at least",
            got="values of all",
            fix="leave one out, or give its {uniform: [low, high]} or {normal: [mean, sd]}",
        )


def _latex(laws: Mapping[str, Law]) -> dict[str, str]:
    """LaTeX of every free parameter."""
    per_bin = {"m": "m", "dz": r"\Delta z"}
    return {
        name: _LATEX[name] if name in _LATEX else f"{per_bin[name.split('_')[0]]}_{{{name.split('_')[1]}}}"
        for name in laws
    }
