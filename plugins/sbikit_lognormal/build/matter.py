"""Matter power spectra of CAMB: one run of the Boltzmann equations a cosmology.

The linear sigma_8 fixes the amplitude; the non-linear spectra are then made from the same transfer
functions, by HMcode-2020 without and with feedback (Mead et al. 2021, doi:10.1093/mnras/stab082), with
w_0 below -1 by the PPF dark energy of Fang, Hu and Lewis (2008, doi:10.1103/PhysRevD.78.087303).

This module imports camb only when a spectrum is computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline, RectBivariateSpline

from sbikit.storage import replacing
from sbikit_lognormal.cosmology import HUBBLE_DISTANCE, PARAMETERS
from sbikit_lognormal.options import Z_MAX

Array = NDArray[np.float64]

# Errors are the largest of the spectra of five bins over 20 <= ell <= 6000, in the fiducial universe.
_K_MAX = (
    20.0  # 1/Mpc; beyond it a power law, wrong by 7e-4; 10 would be by 8e-3, 60 by 2e-5 in twice the time
)
_REDSHIFTS = 41  # of the power, between which it is a spline; 21 would add 5e-4, 81 take away nothing
_DISTANCES = 101  # redshifts of the distances; 51 would be as good to 1e-5
_PRIMORDIAL_AMPLITUDE = 2e-9  # of the first pass, which measures sigma_8; any would do


@dataclass(frozen=True)
class MatterPower:
    """The matter power spectra of one universe.

    Args:
        cosmology: the six parameters (6,).
        log_t_agn: log10 of the heating temperature in K that the feedback has.
        k: wave numbers in 1/Mpc (n_k,).
        z: ascending redshifts (n_z,).
        log_nonlinear: log of the non-linear power in Mpc^3 without baryons' feedback (n_z, n_k).
        log_linear: log of the linear power in Mpc^3 (n_z, n_k).
        log_feedback: log of the power with feedback over that without (n_z, n_k).
        z_chi: redshifts (n,) of `chi`.
        chi: comoving distances in Mpc (n,).
    """

    cosmology: Array
    log_t_agn: float
    k: Array
    z: Array
    log_nonlinear: Array
    log_linear: Array
    log_feedback: Array
    z_chi: Array
    chi: Array

    def save(self, path: Path) -> None:
        """Write an .npz file; it appears only when it is whole."""
        with replacing(path) as partial:
            np.savez(partial, **asdict(self))

    @classmethod
    def load(cls, path: Path) -> MatterPower:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return cls(**{**arrays, "log_t_agn": float(arrays["log_t_agn"])})

    def nonlinear(self, ell: Array, z: Array) -> Array:
        """log of (h / D_H)^3 P(k = (ell + 1/2) / chi(z), z), dimensionless, (n_z, n_ell).

        Args:
            ell: multipoles (n_ell,).
            z: redshifts between 0 and 5 (n_z,).
        """
        return self._on_grid(self.log_nonlinear, ell, z) + self._units

    def linear(self, ell: Array, z: Array) -> Array:
        """The same of the linear power."""
        return self._on_grid(self.log_linear, ell, z) + self._units

    def feedback(self, ell: Array, z: Array) -> Array:
        """log of the power with feedback over that without, at the same places."""
        return self._on_grid(self.log_feedback, ell, z)

    @property
    def _units(self) -> float:
        return 3.0 * float(np.log(self.cosmology[PARAMETERS.index("h")] / HUBBLE_DISTANCE))

    def _on_grid(self, log_power: Array, ell: Array, z: Array) -> Array:
        """A table (n_z, n_k) at the Limber wave numbers, going on as a power law beyond its ends."""
        chi = CubicSpline(self.z_chi, self.chi)(z)
        log_k = np.log((ell + 0.5) / chi[:, None])
        ends = np.log(self.k[[0, -1]])
        table = RectBivariateSpline(self.z, np.log(self.k), log_power)
        inside = np.clip(log_k, *ends)
        at = np.broadcast_to(z[:, None], log_k.shape)
        slope = table(at, inside, dy=1, grid=False)
        return np.asarray(table(at, inside, grid=False) + slope * (log_k - inside))


def matter_power(cosmology: Sequence[float], log_t_agn: float = 7.8) -> MatterPower:
    """Run CAMB.

    Args:
        cosmology: the six parameters in the order of `PARAMETERS`.
        log_t_agn: log10 of the heating temperature in K for the spectrum with feedback; CAMB's default
            where left out.
    """
    with _camb_accuracy(1):  # CAMB's own default
        return _run_camb(cosmology, log_t_agn)


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


def _run_camb(cosmology: Sequence[float], log_t_agn: float) -> MatterPower:
    results = _transfer_functions(cosmology)
    k, z, nonlinear = results.get_nonlinear_matter_power_spectrum(hubble_units=False, k_hunit=False)
    _, _, linear = results.get_linear_matter_power_spectrum(
        hubble_units=False, k_hunit=False, nonlinear=False
    )
    z_chi = np.linspace(0.0, Z_MAX, _DISTANCES)
    chi = results.comoving_radial_distance(z_chi)
    results.Params.NonLinearModel.set_params("mead2020_feedback", HMCode_logT_AGN=log_t_agn)
    results.calc_power_spectra()
    _, _, feedback = results.get_nonlinear_matter_power_spectrum(hubble_units=False, k_hunit=False)
    return MatterPower(
        cosmology=np.asarray(cosmology, dtype=np.float64),
        log_t_agn=float(log_t_agn),
        k=np.asarray(k),
        z=np.asarray(z),
        log_nonlinear=np.log(nonlinear),
        log_linear=np.log(linear),
        log_feedback=np.log(feedback / nonlinear),
        z_chi=z_chi,
        chi=np.asarray(chi),
    )


def _transfer_functions(cosmology: Sequence[float]) -> Any:
    """CAMB's results, of the amplitude that sigma_8 asks for, with spectra that are linear and non-linear."""
    import camb

    omega_c, omega_b, sigma_8, h, n_s, w_0 = (float(value) for value in cosmology)
    parameters = camb.set_params(
        H0=100 * h,
        ombh2=omega_b * h**2,
        omch2=omega_c * h**2,
        omk=0.0,
        mnu=0.0,
        num_massive_neutrinos=0,
        ns=n_s,
        As=_PRIMORDIAL_AMPLITUDE,
        w=w_0,
        dark_energy_model="ppf",
        halofit_version="mead2020",
    )
    parameters.set_matter_power(redshifts=list(np.linspace(Z_MAX, 0.0, _REDSHIFTS)), kmax=_K_MAX)
    parameters.WantCls = False
    parameters.NonLinear = camb.model.NonLinear_none
    results = camb.get_transfer_functions(parameters)
    results.calc_power_spectra()
    results.Params.InitPower.As = _PRIMORDIAL_AMPLITUDE * (sigma_8 / float(results.get_sigma8_0())) ** 2
    results.Params.NonLinear = camb.model.NonLinear_both
    results.calc_power_spectra()
    return results
