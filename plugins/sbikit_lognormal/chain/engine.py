"""The chain from parameters to the data of a patch, in one precision on one device.

theta  ->  C_ij(ell), lambda_i  ->  kappa_i = lambda_i [exp(G_i - v_i / 2) - 1]
    data_i = (1 + m_i) D kappa_i + n_i
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sbikit import SimulationError
from sbikit_lognormal.chain.model import Model
from sbikit_lognormal.chain.theory import Theory
from sbikit_lognormal.field import Gaussian, GaussianConvergence, LogNormalConvergence, RandomField
from sbikit_lognormal.spectra import ELL, Spectra
from sbikit_lognormal.survey import (
    KaiserSquires,
    Maps,
    MaskedKaiserSquires,
    Quadratics,
    Summaries,
    Survey,
    WienerFilter,
    cut,
    signal,
)

# Parameters from the prior that show how spectra vary: principal ways of so many are those of more.
_WAYS = 128


@dataclass(frozen=True, eq=False)
class Engine:
    """The chain.

    Args:
        model: what is described.
        theory: spectra and powers.
        dtype: precision of the maps.
        device: where to compute.
    """

    model: Model
    theory: Theory
    dtype: torch.dtype
    device: torch.device

    @property
    def spectra(self) -> Spectra:
        """Spectra and shifts of parameter vectors."""
        return self.theory.spectra

    @cached_property
    def field(self) -> RandomField:
        """The law of the convergence."""
        common = (self.model.pixels, ELL, self.model.bins, self.dtype, self.device)
        if self.model.options.field == "gaussian":
            return GaussianConvergence(*common)
        return LogNormalConvergence(*common, decorrelation=self.model.options.decorrelation)

    @cached_property
    def lensing(self) -> KaiserSquires:
        """Shear of the box."""
        return KaiserSquires(self.model.box, self.dtype, self.device)

    @cached_property
    def survey(self) -> Survey:
        """Noise and mask."""
        return self.model.survey.to(self.dtype, self.device)

    @cached_property
    def kaiser_squires(self) -> MaskedKaiserSquires:
        """Convergence of shear, its mask filled with the E mode."""
        return MaskedKaiserSquires(self.lensing, self.model.survey.mask)

    @cached_property
    def summaries(self) -> Summaries:
        """What is made back of shear."""
        options = self.model.options
        by_weight = None
        if options.wiener or options.quadratics:
            by_weight = WienerFilter(self.lensing, self.theory.typical_power(), self.model.survey.weight)
        return Summaries(self.kaiser_squires, by_weight, self._quadratics, wiener=options.wiener)

    @cached_property
    def _quadratics(self) -> Quadratics | None:
        if not (count := self.model.options.quadratics):
            return None
        weight = self.model.survey.weight.double().mean((-2, -1)) * (self.model.size / self.model.box) ** 2
        typical, powers = self.theory.typical_quadrant(), self.theory.powers_of_data(_WAYS)
        return Quadratics(typical, powers, weight, count, dtype=self.dtype, device=self.device)

    def gaussian(self, theta: Tensor) -> Gaussian:
        """The Gaussian fields of parameters (..., D)."""
        return self.field.gaussian(*self.spectra(theta))

    def checked(self, theta: Tensor) -> Gaussian:
        """The same, refused where no such field exists."""
        gaussian = self.gaussian(theta)
        self.refuse_negative_modes(gaussian, theta)
        return gaussian

    def refuse_negative_modes(self, gaussian: Gaussian, theta: Tensor) -> None:
        """A field with negative power does not exist; taking its modulus would change the spectrum.

        Raises:
            SimulationError: the field of one of the parameter vectors (..., D) is none.
        """
        lowest = gaussian.lowest.detach().reshape(-1)
        if bool((lowest > 0).all()):
            return
        worst = int(lowest.nan_to_num(nan=-math.inf).argmin())
        values = theta.detach().reshape(-1, theta.shape[-1])[worst].tolist()
        names = self.model.prior.laws
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
        clean = cut(self._signal(box), self.model.size)
        bias = self.model.parameters.shear_bias(theta)
        if bias is None:
            return clean
        return clean * (1.0 + bias).to(clean.dtype)[..., None, None, None]

    @cached_property
    def _signal(self) -> Maps:
        return signal(self.model.observable, self.lensing)


class Engines:
    """The engines of a model, each made when it is first asked for.

    Args:
        model: what is described.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self._engines: dict[tuple[torch.dtype, torch.device], Engine] = {}
        self._theories: dict[torch.device, Theory] = {}

    def at(self, dtype: torch.dtype, device: torch.device) -> Engine:
        """The engine of this precision on this device."""
        key = (dtype, device)
        if key not in self._engines:
            self._engines[key] = Engine(self.model, self.theory(device), dtype, device)
        return self._engines[key]

    def theory(self, device: torch.device) -> Theory:
        """The spectra on this device, one for all precisions."""
        if device not in self._theories:
            self._theories[device] = Theory(self.model, device)
        return self._theories[device]
