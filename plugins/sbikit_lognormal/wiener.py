"""The exact posterior of the `lognormal` simulator's Gaussian maps.

Where convergence is a Gaussian field on a periodic patch that is seen everywhere with the same noise, the
maps can be integrated out: p(theta | d) is a product over Fourier modes, and p(kappa | theta, d) is Gaussian
with the Wiener filter's mean (`modes`). The E mode of observed shear,

    d = D_1 gamma_1 + D_2 gamma_2 = (1 + m) kappa + n,    n white with the noise of one component,

is all that the likelihood depends on: the B mode is noise alone and independent of n. It has no mean, so at
k = 0 kappa keeps its prior.

In what sense draws are exact: theta comes from its marginal posterior by rejection (`rejection`), each draw
from a point of its own, independent of all others given the proposal; the one approximation is a bound on the
weights taken from other points, and its effect is measured (`Diagnostics.excess`). kappa given theta is exact
to rounding. So any two sets of draws, the first and the second half for one, are independent.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

import numpy as np
import torch
from pydantic import Field as Option
from scipy.stats import qmc
from torch import Tensor
from torch.special import ndtri

from sbikit import (
    Monitor,
    Options,
    Plugin,
    QuietMonitor,
    Sampler,
    Simulator,
    Spec,
    UnsupportedError,
    Values,
    check_observation,
)
from sbikit.problem.seeds import derive_seed, generator
from sbikit_lognormal.blocks import one_thread
from sbikit_lognormal.lensing import KaiserSquires
from sbikit_lognormal.modes import GaussianMaps
from sbikit_lognormal.options import LogNormalOptions
from sbikit_lognormal.rejection import LEAST_ACCEPTED, Drawn, Weighted, draw
from sbikit_lognormal.simulator import LogNormal

MOST_EXCESS = 0.005
LARGEST = 0.01


class WienerOptions(Options):
    """Options of `Wiener`."""

    prior_points: int = Option(
        default=16384,
        ge=1024,
        le=2**20,
        description="points of the prior at which the search for each posterior starts",
    )
    points: int = Option(
        default=4096, ge=512, le=2**17, description="points of the proposal a round, in search and in drawing"
    )
    kernels: int = Option(default=512, ge=16, le=4096, description="Student-t kernels of the proposal")


@dataclass(frozen=True)
class Diagnostics:
    """How far the draws for one observation can be trusted.

    Args:
        excess: share of the posterior's mass above the bound on the weights: the draws' density is at most
            this far from the posterior in total variation.
        ess: effective number of the points that the draws were accepted from.
        largest: the largest of their weights, as a share of all.
        evaluations: parameter vectors at which the likelihood was evaluated, the shared ones included.
        seconds: wall time, without what observations share.

    Attributes:
        trustworthy: an excess of at most 0.005, which moves no probability by more, no Kolmogorov-Smirnov
            distance by more, and a classifier's accuracy by at most half as much; from points that make up
            at least 400 effective ones and none of which carries 1 %, so that the excess is known.
    """

    excess: float
    ess: float
    largest: float
    evaluations: int
    seconds: float
    trustworthy: bool = field(init=False)

    def __post_init__(self) -> None:
        known = self.ess >= LEAST_ACCEPTED and self.largest <= LARGEST
        object.__setattr__(self, "trustworthy", known and self.excess <= MOST_EXCESS)


class Wiener(Plugin, Sampler):
    """Draws from the exact joint posterior of parameters and Gaussian maps.

    Draws are independent, so the first half of them is independent of the second. Those for one observation
    depend on the seed and on the observation's place in the batch alone.

    Attributes:
        diagnostics: of each observation of the latest call of `sample`.
    """

    Options = WienerOptions

    def __init__(
        self, simulator: Simulator, options: WienerOptions | None = None, monitor: Monitor | None = None
    ) -> None:
        """Prepare to sample.

        Raises:
            UnsupportedError: the simulator's posterior is not diagonal in Fourier space.
        """
        self._simulator = _supported(simulator)
        self.options: WienerOptions = options or WienerOptions()
        self.spec: Spec = simulator.spec
        self.diagnostics: list[Diagnostics] = []
        self._monitor: Monitor = monitor or QuietMonitor()
        self._sees_shear = simulator.observed == ("shear",)
        self._lensing = KaiserSquires(self._simulator.size, torch.float64)
        self._noise = self._simulator.survey.noise[:, 0, 0].double()
        self._maps = GaussianMaps(
            self._simulator.size,
            self._simulator.bins,
            self._simulator.mode_power,
            self._gain,
            mean_is_seen=not self._sees_shear,
        )

    def sample(self, observation: Values, n: int, *, seed: int) -> dict[str, Tensor]:
        """Draw `n` joint samples for each of B observations; see `Sampler.sample`.

        Raises:
            ObservationError: the observation does not fit the simulator.
            SimulationError: the spectra are not finite, or no field has them.
        """
        check_observation(observation, self.spec)
        self.diagnostics = []
        with torch.no_grad(), one_thread():
            data = self._data(observation)
            statistics = self._maps.statistics(data)
            scouts = self._scouts(statistics)
            draws = {v.name: torch.empty(n, len(data), *v.shape) for v in self.spec.latents}
            with self._monitor.progress("Wiener", len(data)) as advance:
                for b, points in enumerate(scouts):
                    source = generator(derive_seed(seed, "wiener", b))
                    started = time.monotonic()
                    theta, found = self._sample_theta(statistics[b : b + 1], points, n, source)
                    draws[self._simulator.prior.name][:, b] = theta
                    draws["kappa"][:, b] = self._maps.draw(theta, data[b], source)
                    self._report(found, time.monotonic() - started)
                    advance(1)
        return draws

    def log_likelihood(self, theta: Tensor, observation: Values) -> Tensor:
        """log p(data | theta) but for a constant of the data, (B, Q), float64.

        Args:
            theta: parameter vectors (Q, D).
            observation: observed maps, (B, *shape).

        Raises:
            ObservationError: the observation does not fit the simulator.
        """
        check_observation(observation, self.spec)
        with torch.no_grad(), one_thread():
            return self._maps.log_likelihood(theta.double(), self._maps.statistics(self._data(observation)))

    def _sample_theta(
        self, statistics: Tensor, scouts: Weighted, n: int, source: torch.Generator
    ) -> tuple[Tensor, Drawn]:
        """Parameters (n, D) for one observation, and what they rest on."""
        from_white = self._simulator.prior.from_white
        found = draw(
            lambda z: self._maps.log_likelihood(from_white(z), statistics)[0],
            scouts,
            n,
            kernels=self.options.kernels,
            points=self.options.points,
            source=source,
        )
        return from_white(found.z), found

    def _scouts(self, statistics: Tensor) -> list[Weighted]:
        """Points of the prior, the same for all observations, weighted for each by its likelihood."""
        prior = self._simulator.prior
        sobol = qmc.Sobol(len(prior.laws), rng=np.random.default_rng(0))
        exponent = math.ceil(math.log2(self.options.prior_points))
        z = ndtri(torch.from_numpy(sobol.random_base2(exponent)[: self.options.prior_points]))
        found = self._maps.log_likelihood(prior.from_white(z), statistics)
        return [Weighted(z, log_weight) for log_weight in found]

    def _data(self, observation: Values) -> Tensor:
        """E mode, or convergence, in units of its noise, (B, bins, N, N), float64."""
        (name,) = self._simulator.observed
        seen = observation[name].double().cpu()
        if self._sees_shear:
            one_by_one = seen.unflatten(1, (self._simulator.bins, 2)).split(1)
            seen = torch.cat([self._lensing.convergence(shear) for shear in one_by_one])
        return seen / self._noise[:, None, None]

    def _gain(self, theta: Tensor) -> Tensor:
        """What the data is of the convergence, in units of its noise, (Q, bins)."""
        bias = self._simulator.parameters.shear_bias(theta)
        gain = (1.0 / self._noise).expand(len(theta), -1)
        return gain if bias is None else gain * (1.0 + bias)

    def _report(self, found: Drawn, seconds: float) -> None:
        evaluations = found.evaluations + self.options.prior_points
        entry = Diagnostics(found.excess, found.ess, found.largest, evaluations, seconds)
        self.diagnostics.append(entry)
        if entry.trustworthy:
            return
        self._monitor.say(
            f"wiener: do not trust the draws for observation {len(self.diagnostics) - 1}: "
            f"{entry.excess:.2g} of the posterior lies above the bound on the weights (wanted at most "
            f"{MOST_EXCESS:g}), {entry.ess:.0f} effective points (wanted at least {LEAST_ACCEPTED}), largest "
            f"weight {entry.largest:.2g} (wanted at most {LARGEST:g}); more points or kernels would help."
        )


def _supported(simulator: Simulator) -> LogNormal:
    """The simulator, if its maps are Gaussian, periodic, and seen everywhere with the same noise."""
    options = simulator.options
    if isinstance(simulator, LogNormal) and isinstance(options, LogNormalOptions):
        faults = {
            "field: lognormal": options.field != "gaussian",
            f"padding: {options.padding}": options.padding != 1,
            "a mask": options.mask is not None,
            "a varying depth": options.depth is not None,
        }
        if not any(faults.values()):
            return simulator
        got = ", ".join(name for name, fault in faults.items() if fault)
    else:
        got = type(simulator).__name__
    raise UnsupportedError(
        "The exact posterior is known only of Gaussian maps, periodic and seen with one noise everywhere.",
        where="sampler 'wiener'",
        expected="the simulator lognormal with field: gaussian, padding: 1, no mask and no depth",
        got=got,
        fix="set these options, or use --reference hmc",
    )


__all__ = ["MOST_EXCESS", "Diagnostics", "Wiener", "WienerOptions"]
