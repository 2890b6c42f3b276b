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
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbikit import (
    Field,
    LogDensity,
    MarginalDensity,
    ObservationError,
    Simulator,
    UnsupportedError,
    Values,
    Vector,
    derive_seed,
    normals,
)
from sbikit_lognormal.chain import Engine, Engines, facts, make_model, scan_prior
from sbikit_lognormal.field import block_rows, in_blocks, white_modes
from sbikit_lognormal.options import LogNormalOptions
from sbikit_lognormal.posterior import Densities
from sbikit_lognormal.survey import SUMMARIES, cut

CPU = torch.device("cpu")


class LogNormal(Simulator[LogNormalOptions]):
    """Weak lensing of source bins by a log-normal field, or by a Gaussian one.

    Outputs: `kappa`, the convergence (bins, N, N), inferred; and observed `shear`, (2 bins, N, N), component
    c of bin b in channel 2 b + c, or `kappa_obs`, noisy convergence (bins, N, N); all dimensionless. Masked
    pixels hold 0.

    A log-normal field has a `floor`, observed shear `summaries`, Gaussian maps on an even, periodic patch a
    `marginal_density`. Noise alone can be drawn anew (`observe`), but not for the shear of a patch that is
    not periodic, which its own convergence does not fix.

    Raises:
        OptionError: the prior leaves what the emulator covers, the pixels are too small, or options do not
            fit each other.
        SimulationError: no such field has the asked spectra somewhere in the prior.
    """

    def __init__(self, options: LogNormalOptions | None = None) -> None:
        super().__init__(options)
        model = make_model(self.options)
        self.bins, self.size, self.box = model.bins, model.size, model.box
        self.parameters, self.prior, self.survey = model.parameters, model.prior, model.survey
        self._observable = model.observable
        grid, extent = (self.size,) * 2, (self.options.extent,) * 2
        whole, even = self.options.padding == 1, self.survey.uniform
        kappa = Field("kappa", grid, self.bins, extent, extent_unit="deg", latex=r"\kappa")
        kappa = replace(kappa, stationary=True, periodic=whole)
        seen = self._observable
        data = replace(kappa, name=seen.name, channels=seen.components * self.bins, latex=seen.latex)
        data = replace(data, stationary=even)
        self.outputs, self.observed = (kappa, data), (seen.name,)
        # An inversion feels the edge of a patch that is not periodic.
        estimate = replace(kappa, estimates="kappa", stationary=whole and even)
        maps = tuple(replace(estimate, name=name, latex=SUMMARIES[name]) for name in model.summaries)
        forms = [f"q_{i + 1}" for i in range(self.options.quadratics)]
        latex = tuple(f"q_{{{i + 1}}}" for i in range(len(forms)))
        self.summarised = (*maps, *([Vector("quadratics", tuple(forms), latex=latex)] if forms else []))
        self._engines = Engines(model)
        self._densities = Densities(self._engines)
        scan_prior(self._engine(torch.float32, CPU))

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
            return cut(box, self.size), _noisy(engine, box, theta[rows], noise_seeds[rows])

        kappa, data = in_blocks(maps, len(theta), block_rows(self.box, self.bins))
        return {"kappa": kappa, self._observable.name: data.flatten(1, 2)}

    def observe(self, outputs: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        """Data (B, channels, N, N) of parameters (B, D) and convergence (B, bins, N, N), with new noise.

        Raises:
            UnsupportedError: shear of a padded patch, which the convergence around the patch decides, too.
        """
        if self._observable.name == "shear" and self.options.padding > 1:
            raise UnsupportedError(
                "The convergence of a patch does not fix its shear where the patch is not periodic.",
                where="simulator.padding",
                expected="padding: 1, or observes: convergence",
                got=f"padding: {self.options.padding}",
                fix="set one of these, or simulate anew",
            )
        theta, kappa = torch.as_tensor(outputs[self.prior.name]), torch.as_tensor(outputs["kappa"])
        engine = self._engine(torch.float32, kappa.device)
        noise_seeds = _noise_seeds(seeds)

        def maps(rows: NDArray[np.int64]) -> tuple[Tensor]:
            return (_noisy(engine, kappa[rows], theta[rows], noise_seeds[rows]),)

        (data,) = in_blocks(maps, len(kappa), block_rows(self.box, self.bins))
        return {self._observable.name: data.flatten(1, 2)}

    # --- what is known of the field ---------------------------------------------------------

    def spectra(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """C_ij(ell) of shape (..., pairs, n_ell) at `spectra.ELL` and lambda_i (..., bins), float64.

        A Gaussian field has no shift: lambda is (..., 0).

        Args:
            theta: parameter vectors (..., D).
        """
        return self._engines.theory(theta.device).spectra(theta)

    def mode_power(self, theta: Tensor) -> Tensor:
        """Power of the convergence in the modes of the periodic box, (..., pairs, H, H), float64.

        With M pixels a side, H = M/2 + 1, and modes 0 <= k_y, k_x <= M/2, it is the covariance of rfft2 of
        the maps over M^2. Pairs are those of `torch.tril_indices`. Where the field is Gaussian this is
        all there is to know of it.

        Args:
            theta: parameter vectors (..., D).
        """
        return self._engines.theory(theta.device).mode_power(theta)

    def facts(self) -> dict[str, str]:
        """Mean redshift and scatter of the sources that are used, noise, mask, axes and signs, in words."""
        return facts(self._engines.model)

    def floor(self, parameters: Values) -> dict[str, Tensor]:
        """The lowest convergence there can be, -lambda, (*batch, bins), for parameters (*batch, D).

        A Gaussian field has none and is left out.
        """
        if self.options.field == "gaussian":
            return {}
        theta = torch.as_tensor(parameters[self.prior.name])
        return {"kappa": -self.spectra(theta)[1].to(theta.dtype)}

    # --- what is known of the data ----------------------------------------------------------

    def masks(self) -> dict[str, Tensor]:
        """Where the data are observed, (channels, N, N); nothing where all of the patch is."""
        if bool(self.survey.mask.all()):
            return {}
        return {self._observable.name: self.survey.mask.expand(self.spec.observables[0].shape).cpu()}

    def summaries(self, values: Values) -> dict[str, Tensor]:
        """Maps made back from the shear (*batch, 2 bins, N, N), each (*batch, bins, N, N).

        `kappa_ks`, Kaiser-Squires, its mask filled with the E mode; with the option `wiener` also
        `kappa_wiener`, the mean of a Gaussian field with the spectra at the prior's median; and with the
        option `quadratics` so many quadratic forms of the shear, (*batch, R), that tell of the spectra, see
        `survey.Quadratics`. Observed convergence has none.
        """
        if not self.summarised:
            return {}
        shear = values["shear"].unflatten(-3, (self.bins, 2))
        summaries = self._engine(shear.dtype, shear.device).summaries
        batch = shear.shape[:-4]
        flat = shear.reshape(math.prod(batch), *shear.shape[-4:])
        # On a processor few at once, whose arrays stay in its cache: three times faster.
        parts = flat.split(block_rows(self.box, 2 * self.bins)) if flat.device.type == "cpu" else (flat,)
        made = [summaries(part) for part in parts]
        joined = {name: torch.cat([one[name] for one in made]) for name in made[0]}
        return {name: value.reshape(*batch, *value.shape[1:]) for name, value in joined.items()}

    def log_density(self, observation: Values) -> LogDensity:
        """The joint log density of parameters and maps given data (B, channels, N, N).

        The coordinates are conditioned on the data for one source bin on a periodic patch with even noise and
        without a shear bias, else white.

        Raises:
            ObservationError: the data have another shape, or values that are not finite.
        """
        return self._densities.joint(self._data(observation))

    def marginal_density(self, observation: Values) -> MarginalDensity:
        """The posterior of Gaussian maps in closed form, given data (B, channels, N, N).

        Raises:
            UnsupportedError: the field is not Gaussian, or the patch not periodic and seen with even noise.
            ObservationError: the data have another shape, or values that are not finite.
        """
        return self._densities.marginal(self._data(observation))

    # --- inside -----------------------------------------------------------------------------

    def _engine(self, dtype: torch.dtype, device: torch.device) -> Engine:
        return self._engines.at(dtype, device)

    def _data(self, observation: Values) -> Tensor:
        """The data (B, bins, components, N, N), float64, checked."""
        seen = self._observable
        data = torch.as_tensor(observation[seen.name]).double()
        expected = (seen.components * self.bins, self.size, self.size)
        if tuple(data.shape[1:]) != expected or not bool(torch.isfinite(data).all()):
            raise ObservationError(
                f"The observed {seen.name} does not fit the simulator.",
                where=seen.name,
                expected=f"finite values of shape (B, {', '.join(map(str, expected))})",
                got=f"shape {tuple(data.shape)}, {int((~torch.isfinite(data)).sum())} values not finite",
                fix="give data on the simulator's grid, or set the simulator's size to that of the data",
            )
        return data.unflatten(-3, (self.bins, seen.components))


def _noisy(engine: Engine, box: Tensor, theta: Tensor, seeds: NDArray[np.int64]) -> Tensor:
    """Data (B, bins, components, N, N) of convergence on the box, with the noise of these seeds."""
    clean = engine.noiseless(box, theta)
    return engine.survey.observe(clean, normals(seeds, tuple(clean.shape[1:]), box.device))


def _noise_seeds(seeds: NDArray[np.int64]) -> NDArray[np.int64]:
    """Seeds of the shape noise, so that it is not the white field of the same draw."""
    return np.array([derive_seed(int(seed), "shape noise") for seed in seeds], dtype=np.int64)


__all__ = ["LogNormal", "LogNormalOptions"]
