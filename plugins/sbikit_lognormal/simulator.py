"""The `lognormal` simulator: wCDM parameters -> convergence map -> noisy shear.

    theta = (Omega_m, S8, w0)  ->  C(ell), lambda  ->  kappa = lambda [exp(G - v/2) - 1]
    gamma = D kappa + n,  n ~ N(0, sigma_e^2 / (n_gal A_pix)) on each component of each pixel

Fixed are h = 0.6727, Omega_b = 0.0492 and n_s = 0.9645; neutrinos are massless, space is flat and the
map is periodic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Annotated, Literal

import numpy as np
import pydantic
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbikit import (
    Field,
    LogDensity,
    ObservationError,
    OptionError,
    Options,
    Prior,
    SimulationError,
    Simulator,
    Uniform,
    Values,
)
from sbikit.seeds import derive_seed, normals
from sbikit_lognormal.emulator import Emulator, find_table
from sbikit_lognormal.field import LogNormalField, Pixels, rfft2_of_hartley
from sbikit_lognormal.lensing import KaiserSquires, shape_noise
from sbikit_lognormal.runs import BOX
from sbikit_lognormal.spectra import Setting

_LATEX = {"Omega_m": r"\Omega_{\rm m}", "S8": "S_8", "w0": "w_0"}
_SMALLEST_PIXEL = 1.1  # arcmin: smaller ones see wave numbers that CAMB's table does not hold
_BLOCK = 2**17  # pixels worked on at once: larger arrays leave the processor's cache


class LogNormalOptions(Options):
    """Options of the `lognormal` simulator.

    The prior is uniform and nearly as wide as the emulator's box, so that the data decide rather than the
    prior. It keeps a twentieth of the box away from the edge, where a polynomial is at its worst, and S8
    leaves out values far from any survey's.
    """

    size: int = pydantic.Field(default=32, ge=8, le=256, multiple_of=2, description="pixels a side")
    extent: float = pydantic.Field(default=10.0, ge=1.0, le=20.0, description="side of the patch in degrees")
    omega_m: tuple[float, float] = pydantic.Field(
        default=(0.17, 0.47), description="prior range of the matter density Omega_m"
    )
    s8: tuple[float, float] = pydantic.Field(
        default=(0.6, 1.0), description="prior range of S8 = sigma_8 (Omega_m / 0.3)^0.5"
    )
    w0: tuple[float, float] = pydantic.Field(
        default=(-1.8, -0.45), description="prior range of the equation of state w0 of dark energy"
    )
    n_gal: float = pydantic.Field(
        default=27.0, gt=0.0, le=1e6, description="source galaxies per square arcminute"
    )
    sigma_e: float = pydantic.Field(
        default=0.26, gt=0.0, le=1.0, description="ellipticity dispersion a component"
    )
    alpha: float = pydantic.Field(default=2.0, ge=0.5, le=5.0, description="n(z) ~ z^alpha exp(-(z/z0)^beta)")
    beta: float = pydantic.Field(default=0.68, ge=0.4, le=5.0, description="n(z) ~ z^alpha exp(-(z/z0)^beta)")
    z0: float = pydantic.Field(default=0.11, ge=0.02, le=2.0, description="n(z) ~ z^alpha exp(-(z/z0)^beta)")
    shift: Literal["hilbert2011"] | Annotated[float, pydantic.Field(ge=1e-3, le=1.0)] = pydantic.Field(
        default="hilbert2011",
        description="depth lambda of the field's lower bound -lambda: the fit of Hilbert et al. 2011, "
        "carried to other cosmologies in proportion to the empty beam, or one fixed value",
    )


@dataclass(frozen=True)
class _Engine:
    """The chain from parameters to maps, in one precision on one device."""

    emulator: Emulator
    field: LogNormalField
    lensing: KaiserSquires
    fixed_shift: float | None

    def shift(self, theta: Tensor) -> Tensor:
        """lambda (...), float64, of parameters (..., 3)."""
        return self._spectrum(theta)[1]

    def gaussian(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """S (..., N, N/2+1), v (...) and lambda (...) of parameters (..., 3)."""
        spectrum, shift = self._spectrum(theta)
        power, variance = self.field.gaussian_power(spectrum, shift)
        _refuse_negative_modes(power, theta)
        return power, variance, shift.to(self.field.dtype)

    def convergence(self, theta: Tensor, white: Tensor) -> Tensor:
        """kappa (..., N, N) of parameters (..., 3) and white modes (..., N, N/2+1)."""
        power, variance, shift = self.gaussian(theta)
        return self.field.convergence(white, power, variance, shift)

    def _spectrum(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        spectra, shifts = self.emulator(theta)
        shift = shifts[..., 0]
        if self.fixed_shift is not None:
            shift = torch.full_like(shift, self.fixed_shift)
        return spectra[..., 0, 0, :], shift


class LogNormal(Simulator):
    """Weak lensing of one source bin by a log-normal field.

    Outputs: `kappa`, the convergence (1, N, N), inferred; `shear`, (2, N, N), observed; both dimensionless.

    Raises:
        OptionError: the prior leaves the emulator's box, or the pixels are too small.
        SimulationError: no log-normal field has the asked spectrum somewhere in the prior.
    """

    Options = LogNormalOptions

    def __init__(self, options: LogNormalOptions | None = None) -> None:
        options = LogNormalOptions() if options is None else options
        super().__init__(options)
        ranges = {"Omega_m": options.omega_m, "S8": options.s8, "w0": options.w0}
        _check_prior(ranges)
        _check_pixels(options)
        self.size = options.size
        self.prior = Prior({name: Uniform(*bounds) for name, bounds in ranges.items()}, latex=_LATEX)
        grid, extent = (options.size,) * 2, (options.extent,) * 2
        kappa = Field("kappa", grid, 1, extent, extent_unit="deg", latex=r"\kappa")
        self.outputs = (kappa, replace(kappa, name="shear", channels=2, latex=r"\gamma"))
        self.observed = ("shear",)
        self.noise = shape_noise(options.sigma_e, options.n_gal, options.size, options.extent)
        self._pixels = Pixels(options.size, math.radians(options.extent))
        self._fixed_shift = None if options.shift == "hilbert2011" else options.shift
        self._table = find_table(Setting(alpha=options.alpha, beta=options.beta, z0=options.z0))
        self._engines: dict[tuple[torch.dtype, torch.device], _Engine] = {}
        self._check_modes(ranges)

    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        """Convergence (B, 1, N, N) and shear (B, 2, N, N), float32, for parameters (B, 3).

        Raises:
            SimulationError: no log-normal field has the spectrum of a cosmology.
        """
        theta = torch.as_tensor(parameters[self.prior.name])
        white = normals(seeds, (self.size, self.size), theta.device)
        kappa = self.convergence(theta, white)
        return {"kappa": kappa, **self.observe({"kappa": kappa}, seeds=seeds)}

    def convergence(self, theta: Tensor, white: Tensor) -> Tensor:
        """Convergence (B, 1, N, N), float32, of given randomness.

        Args:
            theta: Omega_m, S8, w0, (B, 3).
            white: standard normal numbers (B, N, N).
        """
        engine = self._engine(torch.float32, theta.device)

        def block(theta: Tensor, white: Tensor) -> Tensor:
            return engine.convergence(theta, torch.fft.rfft2(white))

        return self._in_blocks(block, theta, white).unsqueeze(-3)

    def observe(self, outputs: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        """Shear (B, 2, N, N) of the convergence (B, 1, N, N), with the noise of these seeds."""
        kappa = torch.as_tensor(outputs["kappa"])
        own = np.array([derive_seed(int(seed), "shape noise") for seed in seeds], dtype=np.int64)
        noise = normals(own, (2, self.size, self.size), kappa.device)
        return {"shear": self.shear(kappa, noise)}

    def shear(self, kappa: Tensor, noise: Tensor) -> Tensor:
        """Noisy shear (B, 2, N, N), float32, of given randomness.

        Args:
            kappa: convergence (B, 1, N, N).
            noise: standard normal numbers (B, 2, N, N).
        """
        engine = self._engine(torch.float32, kappa.device)

        def block(kappa: Tensor, noise: Tensor) -> Tensor:
            return engine.lensing.shear(kappa).add_(noise, alpha=self.noise)

        return self._in_blocks(block, kappa.squeeze(-3), noise)

    def summaries(self, values: Values) -> dict[str, Tensor]:
        """Kaiser-Squires map `kappa_ks` (*batch, 1, N, N) of the shear (*batch, 2, N, N)."""
        shear = values["shear"]
        lensing = self._engine(shear.dtype, shear.device).lensing
        return {"kappa_ks": lensing.convergence(shear).unsqueeze(-3)}

    def floor(self, parameters: Values) -> dict[str, Tensor]:
        """The lowest convergence there can be, -lambda, (*batch, 1), for parameters (*batch, 3)."""
        theta = torch.as_tensor(parameters[self.prior.name])
        shift = self._engine(torch.float64, theta.device).shift(theta)
        return {"kappa": -shift.unsqueeze(-1).to(theta.dtype)}

    def log_density(self, observation: Values) -> LogDensity:
        """The joint log density of parameters and map given observed shear (B, 2, N, N).

        The white coordinates are those of the parameters, then the N^2 Hartley modes of the white
        map: in them noise and, nearly, the posterior are diagonal.

        Raises:
            ObservationError: the shear has another shape, or values that are not finite.
        """
        shear = self._checked(observation)
        engine = self._engine(torch.float64, shear.device)
        split = [len(self.prior.laws), self.size**2]

        def latents(white: Tensor) -> tuple[Tensor, Tensor]:
            first, second = white.double().split(split, dim=-1)
            theta = self.prior.from_white(first)
            modes = rfft2_of_hartley(second.unflatten(-1, (self.size, self.size)))
            return theta, engine.convergence(theta, modes)

        def log_prob(white: Tensor) -> Tensor:
            _, kappa = latents(white)
            misfit = (shear - engine.lensing.shear(kappa)).square().sum((-3, -2, -1))
            return -0.5 * (white.double().square().sum(-1) + misfit / self.noise**2)

        def decode(white: Tensor) -> dict[str, Tensor]:
            theta, kappa = latents(white)
            return {self.prior.name: theta, "kappa": kappa.unsqueeze(-3)}

        return LogDensity(sum(split), log_prob, decode)

    def _in_blocks(self, work: Callable[[Tensor, Tensor], Tensor], first: Tensor, second: Tensor) -> Tensor:
        """`work` on a few maps at once.

        A lone map is worked on beside a copy of itself: the Fourier transform of one map is rounded
        otherwise than that of several, and a draw shall be the same alone and in any batch.
        """
        rows = max(2, _BLOCK // self.size**2)
        blocks = zip(first.split(rows), second.split(rows), strict=True)
        return torch.cat([work(_paired(a), _paired(b))[: len(a)] for a, b in blocks])

    def _engine(self, dtype: torch.dtype, device: torch.device) -> _Engine:
        key = (dtype, device)
        if key not in self._engines:
            self._engines[key] = _Engine(
                Emulator(self._table, device),
                LogNormalField(self._pixels, self._table.ell, dtype, device),
                KaiserSquires(self.size, dtype, device),
                self._fixed_shift,
            )
        return self._engines[key]

    def _check_modes(self, ranges: Mapping[str, tuple[float, float]]) -> None:
        """Look for negative modes over the prior once, so that a long run cannot meet one."""
        grid = product(*(np.linspace(low, high, 3).tolist() for low, high in ranges.values()))
        self._engine(torch.float64, torch.device("cpu")).gaussian(
            torch.tensor(list(grid), dtype=torch.float64)
        )

    def _checked(self, observation: Values) -> Tensor:
        """The observed shear in float64."""
        shear = torch.as_tensor(observation["shear"]).double()
        expected = (2, self.size, self.size)
        if tuple(shear.shape[1:]) != expected or not bool(torch.isfinite(shear).all()):
            raise ObservationError(
                "The observed shear does not fit the simulator.",
                where="shear",
                expected=f"finite values of shape (B, {', '.join(map(str, expected))})",
                got=f"shape {tuple(shear.shape)}, {int((~torch.isfinite(shear)).sum())} values not finite",
                fix="give shear on the simulator's grid, or set the simulator's size to that of the data",
            )
        return shear


def _paired(rows: Tensor) -> Tensor:
    """The rows (B, ...), a single one twice."""
    return rows if len(rows) > 1 else torch.cat([rows, rows])


def _refuse_negative_modes(power: Tensor, theta: Tensor) -> None:
    """A field with negative power does not exist; taking its modulus would change the spectrum."""
    lowest = power.detach().amin((-2, -1))
    if bool((lowest >= 0).all()):
        return
    worst = int(lowest.argmin())
    values = theta.detach().reshape(-1, theta.shape[-1])[worst].tolist()
    raise SimulationError(
        "No log-normal field has this spectrum: a mode of its Gaussian field has negative power.",
        where=", ".join(f"{name}={value:.6g}" for name, value in zip(BOX, values, strict=True)),
        expected="non-negative power in every mode",
        got=f"{float(lowest.reshape(-1)[worst]):.3g}",
        fix="raise `shift`, widen the pixels or narrow the prior",
    )


def _check_prior(ranges: Mapping[str, tuple[float, float]]) -> None:
    """Refuse a range that is empty or leaves the emulator's box."""
    box = ", ".join(f"{name} {low:g} to {high:g}" for name, (low, high) in BOX.items())
    for name, (low, high) in ranges.items():
        faults = [
            f"{side} bound {value:g} of {name} {how} {limit:g}"
            for side, value, how, limit, wrong in (
                ("lower", low, "is below", BOX[name][0], low < BOX[name][0]),
                ("upper", high, "is above", BOX[name][1], high > BOX[name][1]),
                ("lower", low, "is not below the upper bound", high, low >= high),
            )
            if wrong
        ]
        if faults:
            raise OptionError(
                f"The prior of {name} leaves the cosmologies that the spectrum emulator covers, or is empty.",
                where=f"simulator.{name.lower()}",
                expected=f"a range inside the box {box}",
                got="; ".join(faults),
                fix=f"choose bounds of {name} between {BOX[name][0]:g} and {BOX[name][1]:g}",
            )


def _check_pixels(options: LogNormalOptions) -> None:
    """Refuse pixels smaller than the spectra reach."""
    pixel = options.extent * 60.0 / options.size
    if pixel < _SMALLEST_PIXEL:
        raise OptionError(
            "The pixels are smaller than the matter power spectrum is known.",
            where="simulator.size, simulator.extent",
            expected=f"pixels of {_SMALLEST_PIXEL} arcmin or more",
            got=f"{pixel:.3g} arcmin ({options.extent:g} deg / {options.size})",
            fix="choose a smaller size or a larger extent",
        )


__all__ = ["LogNormal", "LogNormalOptions"]
