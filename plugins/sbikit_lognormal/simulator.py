"""The `lognormal` simulator: wCDM parameters -> convergence maps -> noisy shear, in source bins.

    theta  ->  C_ij(ell), lambda_i  ->  kappa_i = lambda_i [exp(G_i - v_i / 2) - 1]
    gamma_i = (1 + m_i) D kappa_i + n_i,  n_i ~ N(0, sigma_e^2 / (n_gal A_pix)) a component and pixel

As options have it the field may also be Gaussian, kappa_i = G_i of the same power; and the data may be noisy
convergence, (1 + m_i) kappa_i + n_i.

Neutrinos are massless, space is flat. With intrinsic alignments kappa is the convergence that a lensing map
would have whose shear is that of lensing and alignment together.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import qmc
from torch import Tensor
from torch.special import ndtri

from sbikit import (
    Field,
    LogDensity,
    MarginalDensity,
    ObservationError,
    OptionError,
    SimulationError,
    Simulator,
    Values,
)
from sbikit.problem.seeds import derive_seed, normals
from sbikit_lognormal.blocks import block_rows, in_blocks
from sbikit_lognormal.conditioning import Conditioning
from sbikit_lognormal.density import ConditionedDensity, JointDensity, WhiteDensity
from sbikit_lognormal.emulator import Emulator
from sbikit_lognormal.factors import FittedFactors, fitted_factors
from sbikit_lognormal.field import (
    Gaussian,
    GaussianField,
    LogNormalField,
    ModePower,
    Pixels,
    RandomField,
    white_modes,
)
from sbikit_lognormal.inversion import MaskedKaiserSquires, WienerFilter
from sbikit_lognormal.lensing import KaiserSquires
from sbikit_lognormal.limber import ELL, Limber
from sbikit_lognormal.options import LogNormalOptions, ShiftTable, refuse_idle
from sbikit_lognormal.parameters import Parameters, parameters
from sbikit_lognormal.posterior.marginal import marginal_density, refuse_without_marginal
from sbikit_lognormal.shifts import Fixed, Hilbert2011, Shift, Table, TreeLevel, Unbounded, disc_of_pixel
from sbikit_lognormal.sources import Sources, sources
from sbikit_lognormal.survey import Survey, cut, make_survey
from sbikit_lognormal.theory import DirectSpectra, Spectra, fastest

_SMALLEST_PIXEL = 1.1  # arcmin: smaller ones see wave numbers that CAMB's table does not hold
_EDGE = 4.0  # standard deviations from the prior's centre at which modes are looked at
_SCAN = 128  # points of the prior, and as many directions to its edge
_CORNERS = 6  # parameters up to which the corners of the prior are looked at, too


_Maps = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class _Observable:
    """What a survey sees: the variable's name, its LaTeX, and its components a bin."""

    name: str
    latex: str
    components: int


_OBSERVABLES = {
    "shear": _Observable("shear", r"\gamma", 2),
    "convergence": _Observable("kappa_obs", r"\kappa_{\rm obs}", 1),
}


@dataclass(frozen=True)
class _Engine:
    """The chain from parameters to maps, in one precision on one device.

    Args:
        parameters: what a parameter vector means.
        spectra: spectra and shifts.
        field: the law of the convergence.
        signal: data without noise, (..., bins, components, M, M), of convergence (..., bins, M, M).
        survey: noise and mask.
        size: pixels a side of the patch.
    """

    parameters: Parameters
    spectra: Spectra
    field: RandomField
    signal: _Maps
    survey: Survey
    size: int

    def gaussian(self, theta: Tensor) -> Gaussian:
        """The Gaussian fields of parameters (..., D)."""
        return self.field.gaussian(*self.spectra(theta))

    def checked(self, theta: Tensor) -> Gaussian:
        """The same, refused where no such field exists."""
        gaussian = self.gaussian(theta)
        self.refuse_negative_modes(gaussian, theta)
        return gaussian

    def refuse_negative_modes(self, gaussian: Gaussian, theta: Tensor) -> None:
        """A field with negative power does not exist; taking its modulus would change the spectrum."""
        lowest = gaussian.lowest.detach().reshape(-1)
        if bool((lowest > 0).all()):
            return
        worst = int(lowest.nan_to_num(nan=-math.inf).argmin())
        values = theta.detach().reshape(-1, theta.shape[-1])[worst].tolist()
        names = self.parameters.prior.laws
        raise SimulationError(
            f"No {self.field.law} field has these spectra: a Gaussian mode has negative power.",
            where=", ".join(f"{name}={value:.6g}" for name, value in zip(names, values, strict=True)),
            expected="positive power of all bins and of their combinations in every mode",
            got=f"{float(lowest[worst]):.3g} of the mean power",
            fix=self.field.remedy,
        )

    def noiseless(self, box: Tensor, theta: Tensor) -> Tensor:
        """The patch's data without noise, (..., bins, components, N, N), of convergence on the box.

        Args:
            box: convergence (..., bins, M, M).
            theta: parameters (..., D).
        """
        clean = cut(self.signal(box), self.size)
        bias = self.parameters.shear_bias(theta)
        if bias is None:
            return clean
        return clean * (1.0 + bias).to(clean.dtype)[..., None, None, None]

    def convergence(self, theta: Tensor, white: Tensor) -> Tensor:
        """kappa on the box (..., bins, M, M) of parameters (..., D) and white numbers of that shape."""
        return self.field.convergence(white_modes(white), self.checked(theta))


class LogNormal(Simulator):
    """Weak lensing of source bins by a log-normal field, or by a Gaussian one.

    Outputs: `kappa`, the convergence (bins, N, N), inferred; and observed `shear`, (2 bins, N, N), component
    c of bin b in channel 2 b + c, or `kappa_obs`, noisy convergence (bins, N, N); all dimensionless. Masked
    pixels hold 0.

    A log-normal field has a `floor`, observed shear `summaries`. Where `kappa` fixes the data but for noise
    (it does not if a free parameter scales them, nor the shear of a patch that is not periodic), noise alone
    can be drawn anew (`observe`).

    Raises:
        OptionError: the prior leaves what the emulator covers, the pixels are too small, or options do not
            fit each other.
        SimulationError: no such field has the asked spectra somewhere in the prior.
    """

    Options = LogNormalOptions
    options: LogNormalOptions

    def __init__(self, options: LogNormalOptions | None = None) -> None:
        options = LogNormalOptions() if options is None else options
        super().__init__(options)
        _check_pixels(options)
        self._sources = sources(options.sources)
        _refuse_idle(options, self._sources)
        self._observable = _OBSERVABLES[options.observes]
        self.bins, self.size, self.box = self._sources.bins, options.size, options.size * options.padding
        self.parameters = parameters(options, self.bins)
        self.prior = self.parameters.prior
        grid, extent = (options.size,) * 2, (options.extent,) * 2
        kappa = Field("kappa", grid, self.bins, extent, extent_unit="deg", latex=r"\kappa")
        seen = self._observable
        data = replace(kappa, name=seen.name, channels=seen.components * self.bins, latex=seen.latex)
        self.outputs = (kappa, data)
        self.observed = (seen.name,)
        self.survey = make_survey(
            options.size,
            options.extent,
            _per_bin("n_gal", options.n_gal, self.bins, share=1.0 / self.bins),
            _per_bin("sigma_e", options.sigma_e, self.bins),
            mask=options.mask,
            depth=options.depth,
        )
        self._pixels = Pixels(
            self.box, math.radians(options.extent * options.padding), window=options.pixel_window
        )
        self._engines: dict[tuple[torch.dtype, torch.device], _Engine] = {}
        self._conditionings: dict[torch.device, tuple[Conditioning, FittedFactors | None]] = {}
        self._mode_powers: dict[torch.device, ModePower] = {}
        self._inversions: dict[tuple[torch.dtype, torch.device], dict[str, _Maps]] = {}
        self._check_modes()
        sees_shear = options.observes == "shear"
        if not self.parameters.biased and not (sees_shear and options.padding > 1):
            self.observe = self._observe
        if sees_shear:
            self.summaries = self._summaries
        if options.field == "lognormal":
            self.floor = self._floor

    # --- drawing ----------------------------------------------------------------------------

    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        """Convergence (B, bins, N, N) and the data, (B, channels, N, N), float32, for parameters (B, D).

        Raises:
            SimulationError: no such field has the spectra of a cosmology.
        """
        theta = torch.as_tensor(parameters[self.prior.name])
        engine = self._engine(torch.float32, theta.device)
        noise_seeds = _noise_seeds(seeds)
        spectra, shifts = in_blocks(lambda rows: engine.spectra(theta[rows]), len(theta), engine.spectra.rows)

        def maps(rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
            gaussian = engine.field.gaussian(spectra[rows], shifts[rows])
            engine.refuse_negative_modes(gaussian, theta[rows])
            white = normals(seeds[rows], (self.bins, self.box, self.box), theta.device)
            box = engine.field.convergence(white_modes(white), gaussian)
            clean = engine.noiseless(box, theta[rows])
            noise = normals(noise_seeds[rows], tuple(clean.shape[1:]), theta.device)
            return cut(box, self.size), engine.survey.observe(clean, noise)

        kappa, data = in_blocks(maps, len(theta), block_rows(self.box, self.bins))
        return {"kappa": kappa, self._observable.name: data.flatten(1, 2)}

    def _observe(self, outputs: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        """Data (B, channels, N, N) of the convergence (B, bins, N, N), with the noise of these seeds."""
        kappa = torch.as_tensor(outputs["kappa"])
        engine = self._engine(torch.float32, kappa.device)
        fixed = torch.zeros(len(kappa), len(self.prior.laws), device=kappa.device)
        noise_seeds = _noise_seeds(seeds)

        def maps(rows: NDArray[np.int64]) -> tuple[Tensor]:
            clean = engine.noiseless(kappa[rows], fixed[rows])
            noise = normals(noise_seeds[rows], tuple(clean.shape[1:]), kappa.device)
            return (engine.survey.observe(clean, noise),)

        (data,) = in_blocks(maps, len(kappa), block_rows(self.box, self.bins))
        return {self._observable.name: data.flatten(1, 2)}

    def spectra(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """C_ij(ell) of shape (..., pairs, n_ell) at `limber.ELL` and lambda_i (..., bins), float64.

        A Gaussian field has no shift: lambda is (..., 0).

        Args:
            theta: parameter vectors (..., D).
        """
        return self._engine(torch.float64, theta.device).spectra(theta)

    def mode_power(self, theta: Tensor) -> Tensor:
        """Power of the convergence in the modes of the periodic box, (..., pairs, H, H), float64.

        With M pixels a side, H = M/2 + 1, and modes 0 <= k_y, k_x <= M/2, it is the covariance of rfft2 of
        the maps over M^2. Pairs are those of `torch.tril_indices`. Where the field is Gaussian this is
        all there is to know of it.

        Args:
            theta: parameter vectors (..., D).
        """
        if theta.device not in self._mode_powers:
            self._mode_powers[theta.device] = ModePower(self._pixels, ELL, torch.float64, theta.device)
        return self._mode_powers[theta.device](self.spectra(theta)[0])

    # --- what is known of the data ----------------------------------------------------------

    def _summaries(self, values: Values) -> dict[str, Tensor]:
        """Maps made back from the shear (*batch, 2 bins, N, N), each (*batch, bins, N, N).

        `kappa_ks`, Kaiser-Squires, its mask filled with the E mode; with the option `wiener` also
        `kappa_wiener`, the mean of a Gaussian field with the spectra at the prior's median.
        """
        shear = values["shear"].unflatten(-3, (self.bins, 2))
        inversions = self._inversion(shear.dtype, shear.device)
        return {name: inversion(shear) for name, inversion in inversions.items()}

    def _floor(self, parameters: Values) -> dict[str, Tensor]:
        """The lowest convergence there can be, -lambda, (*batch, bins), for parameters (*batch, D)."""
        theta = torch.as_tensor(parameters[self.prior.name])
        return {"kappa": -self.spectra(theta)[1].to(theta.dtype)}

    def log_density(self, observation: Values) -> LogDensity:
        """The joint log density of parameters and maps given data (B, channels, N, N).

        The coordinates are those of density.py: conditioned on the data for one source bin on a periodic
        patch with even noise and without a shear bias, else white.

        Raises:
            ObservationError: the data have another shape, or values that are not finite.
        """
        data = self._checked(observation).unflatten(-3, (self.bins, self._observable.components))
        engine = self._engine(torch.float64, data.device)
        density: JointDensity
        if self._conditions:
            shear = self.options.observes == "shear"
            seen = (
                self._inversion(torch.float64, data.device)["kappa_ks"](data) if shear else data[..., 0, :, :]
            )
            conditioning, fitted = self._conditioning(data.device)
            density = ConditionedDensity(self.prior, engine.spectra, conditioning, seen, fitted)
        else:
            common = (self.prior, engine.spectra, engine.field)
            density = WhiteDensity(*common, data, engine.survey.weight, noiseless=engine.noiseless)
        return density.density(partial(cut, size=self.size))

    def marginal_density(self, observation: Values) -> MarginalDensity:
        """The posterior of Gaussian maps in closed form, given data (B, channels, N, N).

        Raises:
            UnsupportedError: the field is not Gaussian, or the patch not periodic and seen with one noise.
            ObservationError: the data have another shape, or values that are not finite.
        """
        refuse_without_marginal(self.options)
        data = self._checked(observation).cpu().unflatten(-3, (self.bins, self._observable.components))
        noise = self.survey.noise[:, 0, 0].double()
        return marginal_density(data, noise, self.mode_power, self.parameters.shear_bias)

    # --- inside -----------------------------------------------------------------------------

    @property
    def _conditions(self) -> bool:
        """Whether modes of the data are independent of each other, one of convergence each."""
        plain = self.parameters.shear_bias(torch.zeros(len(self.prior.laws))) is None
        return self.bins == 1 and self.options.padding == 1 and self.survey.uniform and plain

    def _conditioning(self, device: torch.device) -> tuple[Conditioning, FittedFactors | None]:
        """What even noise tells of the modes, and polynomials for it."""
        if device not in self._conditionings:
            engine = self._engine(torch.float64, device)
            variance = float(engine.survey.noise.flatten()[0].square())
            mean_seen = self.options.observes == "convergence"
            found = Conditioning(engine.field, variance, mean_seen=mean_seen, device=device)
            fitted = fitted_factors(self.prior, engine.spectra, found, device)
            self._conditionings[device] = (found, fitted)
        return self._conditionings[device]

    def _engine(self, dtype: torch.dtype, device: torch.device) -> _Engine:
        key = (dtype, device)
        if key not in self._engines:
            self._engines[key] = _Engine(
                self.parameters,
                self._theory(device),
                self._field(dtype, device),
                self._signal(dtype, device),
                self.survey.to(dtype, device),
                self.size,
            )
        return self._engines[key]

    def _field(self, dtype: torch.dtype, device: torch.device) -> RandomField:
        if self.options.field == "gaussian":
            return GaussianField(self._pixels, ELL, self.bins, dtype, device)
        decorrelation = self.options.decorrelation
        return LogNormalField(self._pixels, ELL, self.bins, dtype, device, decorrelation=decorrelation)

    def _signal(self, dtype: torch.dtype, device: torch.device) -> _Maps:
        if self.options.observes == "convergence":
            return partial(torch.unsqueeze, dim=-3)
        return KaiserSquires(self.box, dtype, device).shear

    def _theory(self, device: torch.device) -> Spectra:
        """One for both precisions: the spectra are float64."""
        for (_, known), engine in self._engines.items():
            if known == device:
                return engine.spectra
        limber = Limber(self._sources, device)
        shift = _shift(self.options, limber, self._sources)
        return fastest(DirectSpectra(self.parameters, limber, shift, Emulator(device=device)))

    def _inversion(self, dtype: torch.dtype, device: torch.device) -> dict[str, _Maps]:
        key = (dtype, device)
        if key not in self._inversions:
            ks = MaskedKaiserSquires(self.survey.mask, self.options.padding, dtype, device)
            self._inversions[key] = {"kappa_ks": ks.convergence}
            if self.options.wiener:
                weight = self.survey.weight
                wiener = WienerFilter(self._typical_power(), weight, dtype=dtype, device=device)
                self._inversions[key]["kappa_wiener"] = wiener.convergence
        return self._inversions[key]

    def _typical_power(self) -> Tensor:
        """rfft2 of the correlation functions at the prior's median, (pairs, M, M/2+1), float64."""
        median = self.prior.from_white(torch.zeros(len(self.prior.laws), dtype=torch.float64))
        quadrant = self.mode_power(median)
        return torch.cat([quadrant, quadrant[:, 1:-1].flip(-2)], -2)

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
        """The data in float64."""
        name = self._observable.name
        data = torch.as_tensor(observation[name]).double()
        expected = (self._observable.components * self.bins, self.size, self.size)
        if tuple(data.shape[1:]) != expected or not bool(torch.isfinite(data).all()):
            raise ObservationError(
                f"The observed {name} does not fit the simulator.",
                where=name,
                expected=f"finite values of shape (B, {', '.join(map(str, expected))})",
                got=f"shape {tuple(data.shape)}, {int((~torch.isfinite(data)).sum())} values not finite",
                fix="give data on the simulator's grid, or set the simulator's size to that of the data",
            )
        return data


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
    if options.field == "gaussian":
        return Unbounded()
    if options.shift == "hilbert2011":
        return Hilbert2011(limber)
    if options.shift == "tree-level":
        return TreeLevel(limber, disc_of_pixel(math.radians(options.extent) / options.size))
    if isinstance(options.shift, ShiftTable):
        return Table(options.shift.table, found.bins, device)
    values = options.shift if isinstance(options.shift, tuple) else (float(options.shift),) * found.bins
    return Fixed(values, found.bins, device)


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


def _refuse_idle(options: LogNormalOptions, found: Sources) -> None:
    """No option shall be without effect."""
    if options.field == "gaussian":
        why = "A Gaussian field has no lower bound, and its bins are as correlated as their spectra say."
        fix = "leave them out, or choose field: lognormal"
        refuse_idle(options, ("shift", "decorrelation"), why, fix=fix)
    if found.bins == 1:
        why = "A single bin has no correlation to lower."
        refuse_idle(options, ("decorrelation",), why, fix="leave it out, or take several bins")
    if options.observes == "convergence":
        why = "Where convergence is observed no map is made back from shear."
        refuse_idle(options, ("wiener",), why, fix="leave it out, or choose observes: shear")


__all__ = ["LogNormal", "LogNormalOptions"]
