"""Which densities a simulator has, and in which coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from sbikit import LogDensity, MarginalDensity
from sbikit_lognormal.chain import Engine, Engines
from sbikit_lognormal.field import white_numbers
from sbikit_lognormal.posterior.conditioned import ConditionedDensity
from sbikit_lognormal.posterior.conditioning import Conditioning
from sbikit_lognormal.posterior.density import JointDensity
from sbikit_lognormal.posterior.factors import FittedFactors, fitted_factors
from sbikit_lognormal.posterior.joint_conditioning import JointConditioning, Known
from sbikit_lognormal.posterior.marginal import marginal_density, refuse_without_marginal
from sbikit_lognormal.posterior.misfit import Misfit, OnModes, OnPixels
from sbikit_lognormal.posterior.survey_density import SurveyDensity
from sbikit_lognormal.posterior.survey_gradient import SurveyGradient
from sbikit_lognormal.survey import cut


@dataclass(frozen=True)
class _Conditioned:
    """What even noise tells of the modes, and polynomials for it where they are good enough."""

    conditioning: Conditioning
    fitted: FittedFactors | None


class Densities:
    """The densities of a simulator given data (B, bins, components, N, N), float64.

    Args:
        engines: its chain from parameters to data.
    """

    def __init__(self, engines: Engines) -> None:
        self._engines, self._model = engines, engines.model
        self._conditioned: dict[torch.device, _Conditioned] = {}

    def joint(self, data: Tensor) -> LogDensity:
        """The joint log density of parameters and maps.

        The coordinates are conditioned on the data: of one source bin on a periodic patch with even noise and
        without a shear bias by formulas of their own; where the box is wider than the patch they are white.
        """
        engine = self._engines.at(torch.float64, data.device)
        density = (
            self._conditioned_density(engine, data)
            if self._conditions
            else self._survey_density(engine, data)
        )
        return density.density(partial(cut, size=self._model.size))

    def marginal(self, data: Tensor) -> MarginalDensity:
        """The posterior of Gaussian maps in closed form, on the CPU.

        Raises:
            UnsupportedError: the field is not Gaussian, or the patch not periodic and seen with even noise.
        """
        refuse_without_marginal(self._model.options)
        theory = self._engines.theory(torch.device("cpu"))
        noise = self._model.survey.noise[:, 0, 0]
        return marginal_density(data.cpu(), noise, theory.mode_power, self._model.parameters.shear_bias)

    @property
    def _conditions(self) -> bool:
        """Whether modes of the data are independent of each other, one of convergence each."""
        return self._model.bins == 1 and self._even

    @property
    def _even(self) -> bool:
        """Whether the patch is periodic and seen with even noise, and no parameter changes how."""
        model = self._model
        plain = model.parameters.shear_bias(torch.zeros(len(model.prior.laws))) is None
        return model.options.padding == 1 and model.survey.uniform and plain

    def _conditioned_density(self, engine: Engine, data: Tensor) -> JointDensity:
        known, seen = self._condition(engine), self._seen(engine, data)
        return ConditionedDensity(self._model.prior, engine.spectra, known.conditioning, seen, known.fitted)

    def _survey_density(self, engine: Engine, data: Tensor) -> JointDensity:
        """In coordinates that are conditioned on the data where the box is the patch, else white."""
        # In float64 for both, so that of one observation it is the same as of many.
        seen = self._seen(engine, data)
        numbers = white_numbers(torch.fft.rfft2(seen))
        return SurveyDensity(
            self._model.prior,
            engine.spectra,
            engine.field,
            data,
            engine.survey.weight,
            noiseless=engine.noiseless,
            known=self._known(engine, numbers),
            quick=self._quick(data.float(), seen.float(), numbers.float()),
        )

    def _quick(self, data: Tensor, seen: Tensor, numbers: Tensor) -> SurveyGradient:
        engine = self._engines.at(torch.float32, data.device)
        weight = engine.survey.weight
        if self._even:
            misfit: Misfit = OnModes(seen, weight[:, :1, :1], self._sees_mean)
        else:
            misfit = OnPixels(data, weight.unsqueeze(-3), engine.noiseless)
        known = self._known(engine, numbers)
        return SurveyGradient(self._model.prior, engine.spectra, engine.field, misfit, known)

    def _known(self, engine: Engine, numbers: Tensor) -> Known | None:
        """What the coordinates know of the data, taken for those of even noise without a mask."""
        if self._model.options.padding != 1:
            return None
        variance = 1.0 / engine.survey.weight.mean((-2, -1))
        found = JointConditioning(engine.field, variance, mean_seen=self._sees_mean, device=engine.device)
        return Known(found, numbers)

    @property
    def _sees_mean(self) -> bool:
        return self._model.observable.components == 1

    def _seen(self, engine: Engine, data: Tensor) -> Tensor:
        """Convergence made back from the data, (B, bins, N, N)."""
        return data[..., 0, :, :] if self._sees_mean else engine.kaiser_squires.convergence(data)

    def _condition(self, engine: Engine) -> _Conditioned:
        device = engine.device
        if device not in self._conditioned:
            variance = float(engine.survey.noise.flatten()[0].square())
            found = Conditioning(engine.field, variance, mean_seen=self._sees_mean, device=device)
            fitted = fitted_factors(self._model.prior, engine.spectra, engine.field, device)
            self._conditioned[device] = _Conditioned(found, fitted)
        return self._conditioned[device]
