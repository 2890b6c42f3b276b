"""NUTS as a sampler: the exact posterior of a log density, one observation after the other."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from pydantic import Field as Option
from torch import Tensor

from sbikit import (
    LogDensity,
    Monitor,
    Options,
    Plugin,
    QuietMonitor,
    Sampler,
    Simulator,
    Spec,
    Values,
    check_observation,
)
from sbikit.problem.seeds import derive_seed
from sbikit_exact.chains import chain_sizes, decode, judged, log_density_of, thin
from sbikit_exact.diagnostics import Diagnostics, diagnose
from sbikit_exact.nuts import Settings, load_nutpie, run_nuts


class NUTSOptions(Options):
    """Options of `NUTS`."""

    chains: int = Option(
        default=4,
        ge=2,
        le=64,
        multiple_of=2,
        description="chains an observation; one half of them gives the first half of the draws",
    )
    warmup: int = Option(
        default=500, ge=50, le=100_000, description="transitions a chain that adapt and are dropped"
    )
    draws: int = Option(
        default=1500,
        ge=50,
        le=1_000_000,
        description="least number of kept transitions a chain; they are thinned to what is asked for",
    )
    max_depth: int = Option(
        default=10, ge=1, le=14, description="a transition takes at most 2^max_depth gradients"
    )
    target_accept: float = Option(
        default=0.8, ge=0.5, lt=1.0, description="acceptance rate that the step size is tuned to"
    )
    low_rank: bool = Option(
        default=True, description="learn the posterior's strongest correlations into the mass matrix"
    )


class NUTS(Plugin, Sampler):
    """Draws from the exact posterior by NUTS in the coordinates of the simulator's log density.

    Draws of one observation are chain-major: the first `chain_sizes(n, chains)[0]` are chain 0 in
    order, and so on; the first n // 2 and the others come from different chains. Each observation's
    chains start at draws from the prior and depend on the seed and the observation's place in the
    batch alone.

    Attributes:
        diagnostics: of each observation of the latest call of `sample`.
    """

    Options = NUTSOptions

    def __init__(
        self, simulator: Simulator, options: NUTSOptions | None = None, monitor: Monitor | None = None
    ) -> None:
        """Prepare to sample.

        Raises:
            UnsupportedError: the simulator has no log density.
            PluginError: nutpie is not installed.
        """
        self._density_of: Callable[[Values], LogDensity] = log_density_of(simulator, "nuts")
        load_nutpie()
        self.options: NUTSOptions = options or NUTSOptions()
        self.spec: Spec = simulator.spec
        self.diagnostics: list[Diagnostics] = []
        self._monitor: Monitor = monitor or QuietMonitor()

    def sample(self, observation: Values, n: int, *, seed: int) -> dict[str, Tensor]:
        """Draw `n` joint samples for each of B observations; see `Sampler.sample`.

        Raises:
            ObservationError: the observation does not fit the simulator.
            SimulationError: the log density raised or is not finite.
        """
        count = check_observation(observation, self.spec)
        settings = self._settings(n)
        self.diagnostics = []
        columns = []
        work = count * settings.chains * (settings.warmup + settings.draws)
        with self._monitor.progress("NUTS", work) as advance:
            for b in range(count):
                one = {v.name: observation[v.name][b : b + 1] for v in self.spec.observables}
                columns.append(self._sample_one(one, n, settings, derive_seed(seed, "nuts", b), advance))
                self._report(b)
        return {v.name: torch.cat([draws[v.name] for draws in columns], 1) for v in self.spec.latents}

    def _settings(self, n: int) -> Settings:
        chains = self.options.chains
        return Settings(
            chains=chains,
            warmup=self.options.warmup,
            draws=max(self.options.draws, *chain_sizes(n, chains)),
            max_depth=self.options.max_depth,
            target_accept=self.options.target_accept,
            low_rank=self.options.low_rank,
        )

    def _sample_one(
        self, one: Values, n: int, settings: Settings, seed: int, advance: Callable[[int], None]
    ) -> dict[str, Tensor]:
        """Draws (n, 1, *shape) of each latent for one observation."""
        started = time.monotonic()
        density = self._density_of(one)
        chains = run_nuts(
            lambda z: density.log_prob(z.unsqueeze(1)).squeeze(1),
            density.size,
            settings,
            seed=seed,
            advance=advance,
        )
        z = torch.from_numpy(chains.draws).unsqueeze(2)
        labels, scalars = judged(density, z, self.spec)
        found = diagnose(
            labels,
            scalars[0],
            chains.energies,
            chains.divergent,
            gradients=chains.gradients,
            seconds=time.monotonic() - started,
        )
        self.diagnostics.append(found)
        return decode(density, thin(z, n), self.spec)

    def _report(self, b: int) -> None:
        complaints = self.diagnostics[b].complaints
        if complaints:
            self._monitor.say(
                f"NUTS: do not trust the chains of observation {b}: {'; '.join(complaints)}. "
                "More draws or warmup would help."
            )
