"""Convergence power spectra of a flat wCDM universe, and the shift of the log-normal field.

The power spectrum of the convergence of source bins i and j in the extended Limber
approximation (Kilbinger et al. 2017, doi:10.1093/mnras/stx2082) is

    C_ij(ell) = [ell (ell + 1) / (ell + 1/2)^2]^2  int dchi  q_i q_j / chi^2  P(k = (ell + 1/2) / chi, z)
    q_i(chi)  = 3/2 Omega_m H_0^2 / c^2  (1 + z) chi  int_z dz' n_i(z') (chi' - chi) / chi'

with the matter power spectrum of CAMB, non-linear by HMcode-2020 (Mead et al. 2021,
doi:10.1093/mnras/stab082) and with w0 below -1 by the PPF dark energy of Fang, Hu and Lewis (2008).

The shift lambda is the depth below zero that the convergence cannot pass. Hilbert, Hartlap and
Schneider (2011, doi:10.1051/0004-6361/201117294) fitted it to ray-tracing through the Millennium
simulation as a function of the source redshift. Here their value at the mean redshift of the bin is carried
to other cosmologies in proportion to the convergence of an empty beam, -int dchi q_i(chi), the lowest
there can be. The skewness of a log-normal field is 3 / lambda at small variance; so carried it falls with
Omega_m as in perturbation theory (Bernardeau, van Waerbeke and Mellier 1997), though more slowly: about as
Omega_m^-0.5 between 0.2 and 0.4 where they have -0.8.

This module imports neither camb nor glass until a function that needs them is called.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import cumulative_trapezoid
from scipy.interpolate import CubicSpline

if TYPE_CHECKING:
    from camb.results import MatterPowerInterpolator

Array = NDArray[np.float64]

ELL = np.geomspace(2.0, 8e4, 64)
"""Multipoles at which spectra are tabulated; between them they are smooth."""

_HUBBLE_DISTANCE = 2997.92458  # c / (100 km/s/Mpc) in Mpc
_Z_MAX = 5.0
_K_MAX = 20.0  # 1/Mpc, what CAMB computes
_K_END = 1e3  # 1/Mpc, beyond which the power is left out
_MILLENNIUM_OMEGA_M = 0.25
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(300)
_PRIMORDIAL_AMPLITUDE = 2e-9


@dataclass(frozen=True)
class Setting:
    """All that fixes the spectra but the varied parameters (Omega_m, S8, w0).

    Sources follow n(z) ~ z^alpha exp(-(z / z0)^beta), split into `bins` bins of equal number
    with a photometric error `photo_z` (1 + z); one bin needs no photometric redshift. Neutrinos are
    massless and space is flat.

    Args:
        alpha: power of the redshift distribution.
        beta: power in its cut-off.
        z0: redshift of its cut-off.
        bins: tomographic bins.
        photo_z: photometric redshift error at z = 0.
        h: Hubble constant in 100 km/s/Mpc.
        omega_b: baryon density.
        n_s: slope of the primordial spectrum.
    """

    alpha: float = 2.0
    beta: float = 0.68
    z0: float = 0.11
    bins: int = 1
    photo_z: float = 0.05
    h: float = 0.6727
    omega_b: float = 0.0492
    n_s: float = 0.9645

    @cached_property
    def digest(self) -> str:
        """A short name of this setting."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def source_distribution(setting: Setting) -> tuple[Array, Array]:
    """Redshifts (n_z,) and the normalised source distribution of each bin (bins, n_z)."""
    import glass

    z = np.linspace(0.0, _Z_MAX, 1001)
    mode = setting.z0 * (setting.alpha / setting.beta) ** (1.0 / setting.beta)
    total = np.asarray(glass.smail_nz(z, mode, setting.alpha, setting.beta))
    if setting.bins == 1:
        return z, total[None, :]
    edges = [(float(low), float(high)) for low, high in glass.equal_dens_zbins(z, total, setting.bins)]
    binned = np.asarray(glass.tomo_nz_gausserr(z, total, setting.photo_z, edges))
    return z, binned / np.trapezoid(binned, z, axis=-1)[:, None]


def comoving_distance(z: Array, omega_m: float, w0: float) -> Array:
    """Comoving distance in units of c / H_0 of a flat wCDM universe without radiation.

    Args:
        z: ascending redshifts (n_z,) from 0 on.
        omega_m: matter density.
        w0: equation of state of dark energy.
    """
    expansion = np.sqrt(omega_m * (1 + z) ** 3 + (1 - omega_m) * (1 + z) ** (3 * (1 + w0)))
    return np.asarray(CubicSpline(z, 1.0 / expansion).antiderivative()(z))


def lensing_kernel(z: Array, n_z: Array, chi: Array, omega_m: float) -> Array:
    """The kernel q_i times c / H_0, shape (bins, n_z).

    Args:
        z: redshifts (n_z,) from 0 on.
        n_z: normalised source distributions (bins, n_z).
        chi: comoving distance to z in units of c / H_0, (n_z,).
        omega_m: matter density.
    """
    inverse = np.divide(1.0, chi, out=np.zeros_like(chi), where=chi > 0)
    beyond = _integral_beyond(n_z, z) - chi * _integral_beyond(n_z * inverse, z)
    return 1.5 * omega_m * (1 + z) * chi * beyond


def _integral_beyond(f: Array, z: Array) -> Array:
    """Integral of f (bins, n_z) from each redshift to the last."""
    below = cumulative_trapezoid(f, z, initial=0.0, axis=-1)
    return below[:, -1:] - below


def shift(setting: Setting, omega_m: float, w0: float) -> Array:
    """The shift lambda of each bin, (bins,)."""
    import glass

    z, n_z = source_distribution(setting)
    mean = np.asarray(np.trapezoid(n_z * z, z, axis=-1))
    fitted = np.array([glass.lognormal_shift_hilbert2011(value) for value in mean.tolist()])
    return fitted * _empty_beam(z, n_z, omega_m, w0) / _empty_beam(z, n_z, _MILLENNIUM_OMEGA_M, -1.0)


def _empty_beam(z: Array, n_z: Array, omega_m: float, w0: float) -> Array:
    """Minus the convergence of a line of sight without matter, (bins,)."""
    chi = comoving_distance(z, omega_m, w0)
    return np.asarray(np.trapezoid(lensing_kernel(z, n_z, chi, omega_m), chi, axis=-1))


def spectra(setting: Setting, omega_m: float, s8: float, w0: float, ell: Array = ELL) -> Array:
    """Convergence power spectra C_ij(ell), shape (bins, bins, n_ell).

    Args:
        setting: sources and fixed cosmology.
        omega_m: matter density.
        s8: sigma_8 sqrt(Omega_m / 0.3).
        w0: equation of state of dark energy.
        ell: multipoles (n_ell,).
    """
    power, hubble_chi = _matter_power(setting, omega_m, s8, w0)
    z, n_z = source_distribution(setting)
    scale = _HUBBLE_DISTANCE / setting.h
    chi_z = hubble_chi(z) / scale
    kernel = CubicSpline(z, lensing_kernel(z, n_z, chi_z, omega_m), axis=-1)
    chi = 0.5 * (1.0 + _NODES) * float(chi_z[-1]) * scale
    weights = 0.5 * _WEIGHTS * float(chi_z[-1]) * scale
    z_chi = CubicSpline(chi_z * scale, z)(chi)
    return _limber(power, chi=chi, weights=weights, z=z_chi, q=kernel(z_chi) / scale, ell=ell)


def _limber(
    power: MatterPowerInterpolator, *, chi: Array, weights: Array, z: Array, q: Array, ell: Array
) -> Array:
    """The Limber integral, (bins, bins, n_ell).

    Args:
        power: P(z, k) in Mpc^3.
        chi: nodes of the quadrature in Mpc (n_chi,).
        weights: its weights in Mpc (n_chi,).
        z: redshifts of the nodes (n_chi,).
        q: lensing kernel in 1/Mpc (bins, n_chi).
        ell: multipoles (n_ell,).
    """
    k = (ell[:, None] + 0.5) / chi
    inside = k < _K_END
    p = np.zeros_like(k)
    p[inside] = power.P(np.broadcast_to(z, k.shape)[inside], k[inside], grid=False)
    factor = (ell * (ell + 1.0) / (ell + 0.5) ** 2) ** 2
    return factor * np.einsum("ic,jc,lc,c->ijl", q, q, p, weights / chi**2)


def _matter_power(
    setting: Setting, omega_m: float, s8: float, w0: float
) -> tuple[MatterPowerInterpolator, CubicSpline]:
    """P(z, k) in Mpc^3 with k in 1/Mpc, and the comoving distance in Mpc of a redshift.

    One run of the Boltzmann equations: the linear sigma_8 fixes the amplitude, then the
    non-linear spectrum is made from the same transfer functions.
    """
    with _camb_accuracy(1):
        return _run_camb(setting, omega_m, s8, w0)


@contextmanager
def _camb_accuracy(target: int) -> Iterator[None]:
    """CAMB 2's accuracy is a global that other libraries change (pyccl does): set it and put it back."""
    import camb

    if not hasattr(camb.config, "AccuracyTarget"):
        yield
        return
    before = camb.config.AccuracyTarget
    camb.config.AccuracyTarget = target
    try:
        yield
    finally:
        camb.config.AccuracyTarget = before


def _run_camb(
    setting: Setting, omega_m: float, s8: float, w0: float
) -> tuple[MatterPowerInterpolator, CubicSpline]:
    import camb

    parameters = camb.set_params(
        H0=100 * setting.h,
        ombh2=setting.omega_b * setting.h**2,
        omch2=(omega_m - setting.omega_b) * setting.h**2,
        omk=0.0,
        mnu=0.0,
        num_massive_neutrinos=0,
        ns=setting.n_s,
        As=_PRIMORDIAL_AMPLITUDE,
        w=w0,
        dark_energy_model="ppf",
        halofit_version="mead2020",
    )
    parameters.set_matter_power(redshifts=list(np.linspace(_Z_MAX, 0.0, 41)), kmax=_K_MAX)
    parameters.WantCls = False
    parameters.NonLinear = camb.model.NonLinear_none
    results = camb.get_transfer_functions(parameters)
    results.calc_power_spectra()
    sigma8 = s8 / np.sqrt(omega_m / 0.3)
    results.Params.InitPower.As = _PRIMORDIAL_AMPLITUDE * (sigma8 / float(results.get_sigma8_0())) ** 2
    results.Params.NonLinear = camb.model.NonLinear_both
    results.calc_power_spectra()
    power = results.get_matter_power_interpolator(
        nonlinear=True, hubble_units=False, k_hunit=False, extrap_kmax=_K_END
    )
    z = np.linspace(0.0, _Z_MAX, 501)
    return power, CubicSpline(z, results.comoving_radial_distance(z))


__all__ = ["ELL", "Setting", "comoving_distance", "lensing_kernel", "shift", "source_distribution", "spectra"]
