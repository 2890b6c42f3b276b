"""What a draw's parameters say: the cosmology and the nuisances, each free or fixed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from scipy.stats import qmc
from torch import Tensor
from torch.special import ndtri

from sbikit import Law, OptionError, Prior, TruncatedNormal, Uniform
from sbikit_lognormal.design import COVERED, LOG_T_AGN, RADIUS
from sbikit_lognormal.limber import MAX_PHOTO_Z_SHIFT
from sbikit_lognormal.matter import PARAMETERS
from sbikit_lognormal.options import LogNormalOptions, Nuisance, PerBin, refuse_idle

FIXED = {"h": 0.6727, "omega_b": 0.0492, "n_s": 0.9645}
"""What the prior `s8` holds fixed."""

LEAST_OMEGA_C = 0.05
"""Below it dark matter is less than half of all matter, where the halo model means nothing."""

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
_RANGES = ("omega_m", "s8", "w0")
_LOG2_DRAWS = 14  # draws of the prior that are looked at


@dataclass(frozen=True)
class Parameters:
    """The parameter vector and what stands in it.

    Args:
        prior: laws of the free parameters.
        fixed: values of the others.
        bins: source bins.
        lensing: how many free parameters, the first ones, the spectra depend on.
    """

    prior: Prior
    fixed: Mapping[str, float]
    bins: int
    lensing: int

    def cosmology(self, theta: Tensor) -> Tensor:
        """The six parameters (..., 6), float64, of parameter vectors (..., D)."""
        if "S8" not in self.prior.laws:
            return torch.stack([self._value(theta, name) for name in PARAMETERS], -1)
        omega_m, s8, w_0 = (self._value(theta, name) for name in ("Omega_m", "S8", "w0"))
        h, omega_b, n_s = (torch.full_like(s8, FIXED[name]) for name in ("h", "omega_b", "n_s"))
        return torch.stack([omega_m - omega_b, omega_b, s8 * torch.sqrt(0.3 / omega_m), h, n_s, w_0], -1)

    def alignment(self, theta: Tensor) -> Tensor | None:
        """A_IA and eta_IA, (..., 2); None where there is no alignment."""
        if self.fixed.get("A_IA") == 0.0:
            return None
        return torch.stack([self._value(theta, name) for name in ("A_IA", "eta_IA")], -1)

    def log_t_agn(self, theta: Tensor) -> Tensor | None:
        """log T_AGN (...); None without feedback."""
        if "log_T_AGN" in self.prior.laws or "log_T_AGN" in self.fixed:
            return self._value(theta, "log_T_AGN")
        return None

    def photo_z_shift(self, theta: Tensor) -> Tensor | None:
        """Shift of each bin's redshifts (..., bins); None where there is none."""
        return self._bins(theta, "dz")

    def shear_bias(self, theta: Tensor) -> Tensor | None:
        """Multiplicative bias of each bin (..., bins); None where there is none."""
        return self._bins(theta, "m")

    @property
    def biased(self) -> bool:
        """Whether a free parameter scales the shear."""
        return any(f"m_{i + 1}" in self.prior.laws for i in range(self.bins))

    def _bins(self, theta: Tensor, name: str) -> Tensor | None:
        names = [f"{name}_{i + 1}" for i in range(self.bins)]
        if all(self.fixed.get(one) == 0.0 for one in names):
            return None
        return torch.stack([self._value(theta, one) for one in names], -1)

    def _value(self, theta: Tensor, name: str) -> Tensor:
        column = theta[..., 0].double()
        if name in self.fixed:
            return torch.full_like(column, self.fixed[name])
        return theta[..., list(self.prior.laws).index(name)].double()


def parameters(options: LogNormalOptions, bins: int) -> Parameters:
    """The parameters that the options describe.

    Raises:
        OptionError: a law leaves what the spectra are made for, or does not fit the bins.
    """
    nuisances = _Nuisances({}, {})
    if options.prior == "wcdm":
        why = "Ranges of the prior s8 are given, but the prior is wcdm."
        refuse_idle(options, _RANGES, why, fix="leave them out, or choose prior: s8")
        _place_wcdm(nuisances, options)
    else:
        why = "Laws of the prior wcdm are given, but the prior is s8."
        refuse_idle(options, PARAMETERS, why, fix="leave them out, or choose prior: wcdm")
        nuisances.laws.update(_uniform(options))
    laws, fixed = nuisances.laws, nuisances.fixed
    nuisances.place("A_IA", "a_ia", options.a_ia, _UNBOUNDED)
    nuisances.place("eta_IA", "eta_ia", options.eta_ia, _UNBOUNDED)
    if options.baryons is not None:
        nuisances.place("log_T_AGN", "baryons", options.baryons, LOG_T_AGN)
    limits = (-MAX_PHOTO_Z_SHIFT, MAX_PHOTO_Z_SHIFT)
    shifts = _each("photo_z_shift", options.photo_z_shift, bins)
    nuisances.place_bins("dz", "photo_z_shift", shifts, limits)
    if fixed.get("A_IA") == 0.0 and ("eta_IA" in laws or fixed["eta_IA"] != 0.0):
        raise OptionError(
            "There is a slope of intrinsic alignments but no alignment.",
            where="simulator.eta_ia",
            expected="an amplitude a_ia that is free or not 0",
            got=f"a_ia {options.a_ia}, eta_ia {options.eta_ia}",
            fix="give a_ia, or leave out eta_ia",
        )
    lensing = len(laws)
    nuisances.place_bins("m", "shear_bias", _each("shear_bias", options.shear_bias, bins), (-0.99, math.inf))
    _refuse_no_law(laws)
    made = Parameters(Prior(laws, latex=_latex(laws)), fixed, bins, lensing)
    if any(getattr(options, name) is not None for name in PARAMETERS):
        _refuse_uncovered_laws(made)
    return made


def _uniform(options: LogNormalOptions) -> dict[str, Law]:
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
    _refuse_uncovered(ranges)
    return {name: Uniform(*bounds) for name, bounds in ranges.items()}


def _place_wcdm(nuisances: _Nuisances, options: LogNormalOptions) -> None:
    """The prior of JADE and sbi_lens, but for universes with little dark matter or none, and given laws."""
    laws = dict(COVERED.laws)
    laws["omega_c"] = TruncatedNormal(0.2664, 0.2, LEAST_OMEGA_C, 0.9)
    for name, law in laws.items():
        given = getattr(options, name)
        if given is None:
            nuisances.laws[name] = law
        else:
            nuisances.place(name, name, given, (law.low, law.high))


def _refuse_no_law(laws: Mapping[str, Law]) -> None:
    if not laws:
        raise OptionError(
            "No parameter is free.",
            where=", ".join(f"simulator.{name}" for name in PARAMETERS),
            expected="the law of one parameter at least",
            got="values of all",
            fix="leave one out, or give its {uniform: [low, high]} or {normal: [mean, sd]}",
        )


def _refuse_uncovered(ranges: Mapping[str, tuple[float, float]]) -> None:
    """The ranges have to lie in the ball of cosmologies that the emulator was fitted to."""
    edges = [torch.linspace(*bounds, 5, dtype=torch.float64) for bounds in ranges.values()]
    theta = torch.cartesian_prod(*edges)
    box = Parameters(Prior({name: Uniform(*bounds) for name, bounds in ranges.items()}), {}, 1, 3)
    _refuse_outside(box, theta, [f"simulator.{name.lower()}" for name in ranges])


def _refuse_uncovered_laws(made: Parameters) -> None:
    """All corners of uniform laws, and of the prior all but a thousandth, have to lie in that ball."""
    prior = made.prior
    where = [f"simulator.{name}" for name in PARAMETERS]
    ends = [
        [-math.inf, math.inf] if name in PARAMETERS and isinstance(law, Uniform) else [0.0]
        for name, law in prior.laws.items()
    ]
    corners = torch.tensor(list(product(*ends)), dtype=torch.float64)
    _refuse_outside(made, prior.from_white(corners), where)
    sobol = qmc.Sobol(len(prior.laws), rng=np.random.default_rng(0)).random_base2(_LOG2_DRAWS)
    theta = prior.from_white(ndtri(torch.from_numpy(sobol)))
    kept = _radius(made.cosmology(theta)).argsort()[: len(theta) - len(theta) // 1000]
    _refuse_outside(made, theta[kept], where)


def _radius(cosmology: Tensor) -> Tensor:
    """Distance (...) of cosmologies (..., 6) from the centre of that ball; infinite where none is covered."""
    radius = COVERED.to_white(cosmology).square().sum(-1).sqrt().nan_to_num(nan=math.inf)
    return torch.where(cosmology[..., 0] >= LEAST_OMEGA_C, radius, math.inf)


def _refuse_outside(made: Parameters, theta: Tensor, where: Sequence[str]) -> None:
    """Refuse parameter vectors (n, D) of which one lies outside that ball."""
    cosmology = made.cosmology(theta)
    radius = _radius(cosmology)
    if bool((radius <= RADIUS).all()):
        return
    worst = int(radius.argmax())
    off = COVERED.to_white(cosmology[worst]).nan_to_num(nan=math.inf).abs() > 2.0
    faults = [
        f"{name} = {float(value):.4g}"
        for name, value, far in zip(PARAMETERS, cosmology[worst], off, strict=True)
        if far
    ]
    raise OptionError(
        "The prior leaves the cosmologies that the spectrum emulator covers.",
        where=", ".join(where),
        expected=f"universes within {RADIUS:g} standard deviations of Omega_c .27 +- .2, sigma_8 .83 +- .14, "
        f"w_0 -1 +- .9, Omega_b .049 +- .006, h .67 +- .063, n_s .96 +- .08, with Omega_c {LEAST_OMEGA_C:g} "
        "to .9 and w_0 -2 to -.3",
        got=", ".join(f"{name}={float(v):.4g}" for name, v in zip(made.prior.laws, theta[worst], strict=True))
        + (", where " + ", ".join(faults) if faults else ""),
        fix="narrow the prior",
    )


@dataclass
class _Nuisances:
    """Sorts nuisances into laws of free parameters and fixed values."""

    laws: dict[str, Law]
    fixed: dict[str, float]

    def place(self, name: str, option: str, given: Nuisance, limits: tuple[float, float]) -> None:
        """Take one up."""
        reach = (given, given) if isinstance(given, (int, float)) else given.reach()
        if not limits[0] <= reach[0] <= reach[1] <= limits[1]:
            raise OptionError(
                f"The values of {name} leave what the simulator is made for.",
                where=f"simulator.{option}",
                expected=f"{limits[0]:g} to {limits[1]:g}",
                got=f"{reach[0]:g} to {reach[1]:g}",
                fix="narrow them",
            )
        if isinstance(given, (int, float)):
            self.fixed[name] = float(given)
        else:
            self.laws[name] = given.law(limits)

    def place_bins(
        self, name: str, option: str, given: Sequence[Nuisance], limits: tuple[float, float]
    ) -> None:
        """Take up one a bin."""
        for index, one in enumerate(given):
            self.place(f"{name}_{index + 1}", option, one, limits)


def _each(option: str, given: PerBin, bins: int) -> tuple[Nuisance, ...]:
    """One nuisance a bin."""
    each = given if isinstance(given, tuple) else (given,) * bins
    if len(each) != bins:
        raise OptionError(
            f"There are not as many values of {option} as bins.",
            where=f"simulator.{option}",
            expected=f"one for all or {bins}",
            got=str(len(each)),
            fix="give one a bin",
        )
    return each


def _latex(laws: Mapping[str, Law]) -> dict[str, str]:
    """LaTeX of every free parameter."""
    per_bin = {"m": "m", "dz": r"\Delta z"}
    return {
        name: _LATEX[name] if name in _LATEX else f"{per_bin[name.split('_')[0]]}_{{{name.split('_')[1]}}}"
        for name in laws
    }


__all__ = ["FIXED", "LEAST_OMEGA_C", "Parameters", "parameters"]
