"""The `lognormal` simulator: wCDM parameters -> convergence maps -> noisy shear, in source bins.

    theta  ->  C_ij(ell), lambda_i  ->  kappa_i = lambda_i [exp(G_i - v_i / 2) - 1]
    gamma_i = (1 + m_i) D kappa_i + n_i,  n_i ~ N(0, sigma_e^2 / (n_gal A_pix)) a component and pixel

Neutrinos are massless, space is flat. With intrinsic alignments kappa is the convergence that a lensing map
would have whose shear is that of lensing and alignment together.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import qmc
from torch import Tensor
from torch.special import ndtri

from sbikit import Field, LogDensity, ObservationError, OptionError, SimulationError, Simulator, Values
from sbikit.seeds import derive_seed, normals
from sbikit_lognormal.blocks import block_rows, in_blocks
from sbikit_lognormal.emulator import Emulator
from sbikit_lognormal.field import Gaussian, LogNormalField, Pixels, power_matrix, white_modes
from sbikit_lognormal.inversion import MaskedKaiserSquires, WienerFilter
from sbikit_lognormal.lensing import KaiserSquires
from sbikit_lognormal.limber import ELL, Limber
from sbikit_lognormal.options import LogNormalOptions
from sbikit_lognormal.parameters import Parameters, parameters
from sbikit_lognormal.shifts import Fixed, Hilbert2011, Shift, TreeLevel, disc_of_pixel
from sbikit_lognormal.sources import Sources, sources
from sbikit_lognormal.survey import Survey, cut, make_survey
from sbikit_lognormal.theory import DirectSpectra, Spectra, fastest

_SMALLEST_PIXEL = 1.1  # arcmin: smaller ones see wave numbers that CAMB's table does not hold
_EDGE = 4.0  # standard deviations from the prior's centre at which modes are looked at
_SCAN = 128  # points of the prior, and as many directions to its edge
_CORNERS = 6  # parameters up to which the corners of the prior are looked at, too


@dataclass(frozen=True)
class _Engine:
    """The chain from parameters to maps, in one precision on one device."""

    parameters: Parameters
    spectra: Spectra
    field: LogNormalField
    lensing: KaiserSquires
    survey: Survey
    size: int

    def gaussian(self, theta: Tensor) -> Gaussian:
        """The Gaussian fields of parameters (..., D)."""
        return self.field.gaussian(*self.spectra(theta))

    def checked(self, theta: Tensor) -> Gaussian:
        """The same, refused where no such field exists."""
        gaussian = self.gaussian(theta)
        _refuse_negative_modes(gaussian.lowest, theta, list(self.parameters.prior.laws))
        return gaussian

    def shear(self, box: Tensor, theta: Tensor) -> Tensor:
        """Noiseless shear of the patch (..., bins, 2, N, N) of convergence on the box (..., bins, M, M)."""
        shear = cut(self.lensing.shear(box), self.size)
        bias = self.parameters.shear_bias(theta)
        if bias is None:
            return shear
        return shear * (1.0 + bias).to(shear.dtype)[..., None, None, None]

    def convergence(self, theta: Tensor, white: Tensor) -> Tensor:
        """kappa on the box (..., bins, M, M) of parameters (..., D) and white numbers of that shape."""
        return self.field.convergence(white_modes(white), self.checked(theta))


class LogNormal(Simulator):
    """Weak lensing of source bins by a log-normal field.

    Outputs: `kappa`, the convergence (bins, N, N), inferred; `shear`, (2 bins, N, N), observed, component c
    of bin b in channel 2 b + c; both dimensionless. Masked pixels hold shear 0.

    Where the patch is periodic and no free parameter scales the shear, noise alone can be drawn anew
    (`observe`).

    Raises:
        OptionError: the prior leaves what the emulator covers, the pixels are too small, or options do not
            fit each other.
        SimulationError: no log-normal field has the asked spectra somewhere in the prior.
    """

    Options = LogNormalOptions

    def __init__(self, options: LogNormalOptions | None = None) -> None:
        options = LogNormalOptions() if options is None else options
        super().__init__(options)
        _check_pixels(options)
        self._options = options
        self._sources = sources(options.sources)
        _refuse_idle_decorrelation(options, self._sources)
        self.bins, self.size, self.box = self._sources.bins, options.size, options.size * options.padding
        self._parameters = parameters(options, self.bins)
        self.prior = self._parameters.prior
        grid, extent = (options.size,) * 2, (options.extent,) * 2
        kappa = Field("kappa", grid, self.bins, extent, extent_unit="deg", latex=r"\kappa")
        self.outputs = (kappa, replace(kappa, name="shear", channels=2 * self.bins, latex=r"\gamma"))
        self.observed = ("shear",)
        self.survey = make_survey(
            options.size,
            options.extent,
            _per_bin("n_gal", options.n_gal, self.bins, share=1.0 / self.bins),
            _per_bin("sigma_e", options.sigma_e, self.bins),
            mask=options.mask,
            depth=options.depth,
        )
        self._pixels = Pixels(self.box, math.radians(options.extent * options.padding))
        self._engines: dict[tuple[torch.dtype, torch.device], _Engine] = {}
        self._inversions: dict[tuple[torch.dtype, torch.device], dict[str, _Inversion]] = {}
        self._check_modes()
        if options.padding == 1 and not self._parameters.biased:
            self.observe = self._observe

    # --- drawing ----------------------------------------------------------------------------

    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        """Convergence (B, bins, N, N) and shear (B, 2 bins, N, N), float32, for parameters (B, D).

        Raises:
            SimulationError: no log-normal field has the spectra of a cosmology.
        """
        theta = torch.as_tensor(parameters[self.prior.name])
        engine = self._engine(torch.float32, theta.device)
        noise_seeds = _noise_seeds(seeds)
        spectra, shifts = in_blocks(lambda rows: engine.spectra(theta[rows]), len(theta), engine.spectra.rows)

        def maps(rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
            gaussian = engine.field.gaussian(spectra[rows], shifts[rows])
            _refuse_negative_modes(gaussian.lowest, theta[rows], list(self.prior.laws))
            white = normals(seeds[rows], (self.bins, self.box, self.box), theta.device)
            box = engine.field.convergence(white_modes(white), gaussian)
            clean = engine.shear(box, theta[rows])
            noise = normals(noise_seeds[rows], tuple(clean.shape[1:]), theta.device)
            return cut(box, self.size), engine.survey.observe(clean, noise)

        kappa, shear = in_blocks(maps, len(theta), block_rows(self.box, self.bins))
        return {"kappa": kappa, "shear": shear.flatten(1, 2)}

    def _observe(self, outputs: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        """Shear (B, 2 bins, N, N) of the convergence (B, bins, N, N), with the noise of these seeds."""
        kappa = torch.as_tensor(outputs["kappa"])
        engine = self._engine(torch.float32, kappa.device)
        fixed = torch.zeros(len(kappa), len(self.prior.laws), device=kappa.device)
        noise_seeds = _noise_seeds(seeds)

        def maps(rows: NDArray[np.int64]) -> tuple[Tensor]:
            clean = engine.shear(kappa[rows], fixed[rows])
            noise = normals(noise_seeds[rows], tuple(clean.shape[1:]), kappa.device)
            return (engine.survey.observe(clean, noise),)

        (shear,) = in_blocks(maps, len(kappa), block_rows(self.box, self.bins))
        return {"shear": shear.flatten(1, 2)}

    def spectra(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """C_ij(ell) of shape (..., pairs, n_ell) at `limber.ELL` and lambda_i (..., bins), float64.

        Args:
            theta: parameter vectors (..., D).
        """
        return self._engine(torch.float64, theta.device).spectra(theta)

    # --- what is known of the data ----------------------------------------------------------

    def summaries(self, values: Values) -> dict[str, Tensor]:
        """Maps made back from the shear (*batch, 2 bins, N, N), each (*batch, bins, N, N).

        `kappa_ks`, Kaiser-Squires, its mask filled with the E mode; with the option `wiener` also
        `kappa_wiener`, the mean of a Gaussian field with the spectra at the prior's median.
        """
        shear = values["shear"].unflatten(-3, (self.bins, 2))
        inversions = self._inversion(shear.dtype, shear.device)
        return {name: inversion(shear) for name, inversion in inversions.items()}

    def floor(self, parameters: Values) -> dict[str, Tensor]:
        """The lowest convergence there can be, -lambda, (*batch, bins), for parameters (*batch, D)."""
        theta = torch.as_tensor(parameters[self.prior.name])
        return {"kappa": -self.spectra(theta)[1].to(theta.dtype)}

    def log_density(self, observation: Values) -> LogDensity:
        """The joint log density of parameters and maps given observed shear (B, 2 bins, N, N).

        The white coordinates are those of the parameters, then the real and imaginary parts of the white
        maps' Fourier modes (see `field.white_modes`): in them noise and, nearly, the posterior are diagonal.

        Raises:
            ObservationError: the shear has another shape, or values that are not finite.
        """
        shear = self._checked(observation).unflatten(-3, (self.bins, 2))
        engine = self._engine(torch.float64, shear.device)
        shape = (self.bins, self.box, self.box)
        split = [len(self.prior.laws), math.prod(shape)]
        weight = engine.survey.weight.unsqueeze(-3)

        def latents(white: Tensor) -> tuple[Tensor, Tensor]:
            first, second = white.double().split(split, dim=-1)
            theta = self.prior.from_white(first)
            # A copy of their own: pairs of numbers are read as complex ones.
            return theta, engine.convergence(theta, second.clone().unflatten(-1, shape))

        def log_prob(white: Tensor) -> Tensor:
            theta, box = latents(white)
            misfit = (weight * (shear - engine.shear(box, theta)).square()).sum((-4, -3, -2, -1))
            return -0.5 * (white.double().square().sum(-1) + misfit)

        def decode(white: Tensor) -> dict[str, Tensor]:
            theta, box = latents(white)
            return {self.prior.name: theta, "kappa": cut(box, self.size)}

        return LogDensity(sum(split), log_prob, decode)

    # --- inside -----------------------------------------------------------------------------

    def _engine(self, dtype: torch.dtype, device: torch.device) -> _Engine:
        key = (dtype, device)
        if key not in self._engines:
            self._engines[key] = _Engine(
                self._parameters,
                self._theory(device),
                LogNormalField(
                    self._pixels, ELL, self.bins, dtype, device, decorrelation=self._options.decorrelation
                ),
                KaiserSquires(self.box, dtype, device),
                self.survey.to(dtype, device),
                self.size,
            )
        return self._engines[key]

    def _theory(self, device: torch.device) -> Spectra:
        """One for both precisions: the spectra are float64."""
        for (_, known), engine in self._engines.items():
            if known == device:
                return engine.spectra
        limber = Limber(self._sources, device)
        shift = _shift(self._options, limber, self._sources)
        return fastest(DirectSpectra(self._parameters, limber, shift, Emulator(device=device)))

    def _inversion(self, dtype: torch.dtype, device: torch.device) -> dict[str, _Inversion]:
        key = (dtype, device)
        if key not in self._inversions:
            ks = MaskedKaiserSquires(self.survey.mask, self._options.padding, dtype, device)
            self._inversions[key] = {"kappa_ks": ks.convergence}
            if self._options.wiener:
                weight = self.survey.weight
                wiener = WienerFilter(self._typical_power(), weight, dtype=dtype, device=device)
                self._inversions[key]["kappa_wiener"] = wiener.convergence
        return self._inversions[key]

    def _typical_power(self) -> Tensor:
        """rfft2 of the correlation functions at the prior's median, (pairs, M, M/2+1), float64."""
        median = self.prior.from_white(torch.zeros(len(self.prior.laws), dtype=torch.float64))
        matrix = torch.from_numpy(power_matrix(self._pixels, ELL))
        power = self.spectra(median)[0] @ matrix.T
        index = torch.from_numpy(self._pixels.lag_index[:, : self.box // 2 + 1])
        return power[:, index] * (self._pixels.size / self._pixels.extent) ** 2

    def _check_modes(self) -> None:
        """Look for negative modes in the prior and at its edge once, so that a long run hardly meets one."""
        dimension = len(self.prior.laws)
        sobol = qmc.Sobol(dimension, rng=np.random.default_rng(0)).random(2 * _SCAN)
        inside, outwards = ndtri(torch.from_numpy(sobol)).split(_SCAN)
        if dimension <= _CORNERS:
            signs = torch.tensor([-1.0, 1.0], dtype=torch.float64)
            corners = torch.cartesian_prod(*[signs] * dimension).reshape(-1, dimension)
            outwards = torch.cat([corners, outwards])
        edge = _EDGE * outwards / outwards.norm(dim=1, keepdim=True)
        theta = self.prior.from_white(torch.cat([edge, inside]))
        engine = self._engine(torch.float32, torch.device("cpu"))
        for part in theta.split(block_rows(self.box, self.bins)):
            engine.checked(part)

    def _checked(self, observation: Values) -> Tensor:
        """The observed shear in float64."""
        shear = torch.as_tensor(observation["shear"]).double()
        expected = (2 * self.bins, self.size, self.size)
        if tuple(shear.shape[1:]) != expected or not bool(torch.isfinite(shear).all()):
            raise ObservationError(
                "The observed shear does not fit the simulator.",
                where="shear",
                expected=f"finite values of shape (B, {', '.join(map(str, expected))})",
                got=f"shape {tuple(shear.shape)}, {int((~torch.isfinite(shear)).sum())} values not finite",
                fix="give shear on the simulator's grid, or set the simulator's size to that of the data",
            )
        return shear


_Inversion = Callable[[Tensor], Tensor]


def _noise_seeds(seeds: NDArray[np.int64]) -> NDArray[np.int64]:
    """Seeds of the shape noise, so that it is not the white field of the same draw."""
    return np.array([derive_seed(int(seed), "shape noise") for seed in seeds], dtype=np.int64)


def _per_bin(
    name: str, given: float | tuple[float, ...], bins: int, *, share: float = 1.0
) -> tuple[float, ...]:
    """One number a bin; of a single one each bin has this share."""
    if not isinstance(given, tuple):
        return (given * share,) * bins
    if len(given) != bins:
        raise OptionError(
            f"There are not as many values of {name} as bins.",
            where=f"simulator.{name}",
            expected=f"one number, or a list of {bins}",
            got=", ".join(f"{value:g}" for value in given) or "none",
            fix="give one a bin",
        )
    return given


def _shift(options: LogNormalOptions, limber: Limber, found: Sources) -> Shift:
    """The rule that the options choose."""
    device = limber.z.device
    if options.shift == "hilbert2011":
        return Hilbert2011(limber)
    if options.shift == "tree-level":
        return TreeLevel(limber, disc_of_pixel(math.radians(options.extent) / options.size))
    values = options.shift if isinstance(options.shift, tuple) else (float(options.shift),) * found.bins
    return Fixed(values, found.bins, device)


def _refuse_negative_modes(lowest: Tensor, theta: Tensor, names: list[str]) -> None:
    """A field with negative power does not exist; taking its modulus would change the spectrum."""
    lowest = lowest.detach().reshape(-1)
    if bool((lowest > 0).all()):
        return
    worst = int(lowest.nan_to_num(nan=-math.inf).argmin())
    values = theta.detach().reshape(-1, theta.shape[-1])[worst].tolist()
    raise SimulationError(
        "No log-normal field has these spectra: a mode of its Gaussian fields has negative power.",
        where=", ".join(f"{name}={value:.6g}" for name, value in zip(names, values, strict=True)),
        expected="positive power of all bins and of their combinations in every mode",
        got=f"{float(lowest[worst]):.3g} of the mean power",
        fix="raise `decorrelation` where bins overlap, raise `shift`, widen the pixels or narrow the prior",
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


def _refuse_idle_decorrelation(options: LogNormalOptions, found: Sources) -> None:
    """No option shall be without effect."""
    if options.decorrelation and found.bins == 1:
        raise OptionError(
            "A single bin has no correlation to lower.",
            where="simulator.decorrelation",
            expected="0, or two bins or more",
            got=f"{options.decorrelation:g}",
            fix="leave it out",
        )


__all__ = ["LogNormal", "LogNormalOptions"]
