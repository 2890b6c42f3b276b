"""What several test files of the log-normal simulator need."""

from __future__ import annotations

from typing import Any

NO_MARGINAL: list[tuple[dict[str, Any], str]] = [
    ({"field": "lognormal"}, "field: lognormal"),
    ({"padding": 2}, "padding: 2"),
    ({"mask": {"density": 2.0, "radius": 8.0}}, "a mask"),
    ({"depth": {"scatter": 0.2}, "padding": 2}, "padding: 2, a varying depth"),
]
"""Options with which maps cannot be integrated out, and how the refusal names them."""


def pyccl_universe(cosmology: tuple[float, ...]) -> Any:
    """Of (omega_c, omega_b, sigma_8, h, n_s, w_0), with the matter power that the simulator has."""
    import pyccl

    omega_c, omega_b, sigma_8, h, n_s, w_0 = cosmology
    camb = {"halofit_version": "mead2020", "dark_energy_model": "ppf", "kmax": 20.0, "AccuracyTarget": 1}
    return pyccl.Cosmology(
        Omega_c=omega_c,
        Omega_b=omega_b,
        h=h,
        n_s=n_s,
        sigma8=sigma_8,
        w0=w_0,
        transfer_function="boltzmann_camb",
        matter_power_spectrum="camb",
        extra_parameters={"camb": camb},
    )
