"""Which densities a simulator has, and in which coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from sbikit import LogDensity, MarginalDensity
from sbikit_lognormal.chain import Engine, Engines
from sbikit_lognormal.posterior.conditioned import ConditionedDensity
from sbikit_lognormal.posterior.conditioning import Conditioning
from sbikit_lognormal.posterior.density import JointDensity
from sbikit_lognormal.posterior.factors import FittedFactors, fitted_factors
from sbikit_lognormal.posterior.marginal import marginal_density, refuse_without_marginal
from sbikit_lognormal.posterior.white import WhiteDensity
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

        The coordinates are conditioned on the data for one source bin on a periodic patch with even noise and
        without a shear bias, else white.
        """
        engine = self._engines.at(torch.float64, data.device)
        density = self._conditioned_density(engine, data) if self._conditions else _white(engine, data)
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
        model = self._model
        plain = model.parameters.shear_bias(torch.zeros(len(model.prior.laws))) is None
        return model.bins == 1 and model.options.padding == 1 and model.survey.uniform and plain

    def _conditioned_density(self, engine: Engine, data: Tensor) -> JointDensity:
        sees_shear = self._model.observable.components == 2
        seen = engine.inversions["kappa_ks"](data) if sees_shear else data[..., 0, :, :]
        known = self._condition(engine)
        return ConditionedDensity(self._model.prior, engine.spectra, known.conditioning, seen, known.fitted)

    def _condition(self, engine: Engine) -> _Conditioned:
        device = engine.device
        if device not in self._conditioned:
            variance = float(engine.survey.noise.flatten()[0].square())
            mean_seen = self._model.observable.components == 1
            found = Conditioning(engine.field, variance, mean_seen=mean_seen, device=device)
            fitted = fitted_factors(self._model.prior, engine.spectra, engine.field, device)
            self._conditioned[device] = _Conditioned(found, fitted)
        return self._conditioned[device]


def _white(engine: Engine, data: Tensor) -> JointDensity:
    common = (engine.model.prior, engine.spectra, engine.field)
    return WhiteDensity(*common, data, engine.survey.weight, noiseless=engine.noiseless)
