"""NUTS as a sampler: the exact posterior of a simulator with a log density, with its diagnostics."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from pydantic import Field as Option
from torch import Tensor

from sbikit import (
    LogDensity,
    Monitor,
    Options,
    Plugin,
    Sampler,
    Simulator,
    Spec,
    SupportsLogDensity,
    UnsupportedError,
    Values,
    Vector,
    check_observation,
)
from sbikit.seeds import derive_seed
from sbikit_hmc.diagnostics import Diagnostics, bulk_ess, r_hat
from sbikit_hmc.nuts import Settings, load_nutpie, run_nuts

_DECODE_CHUNK = 128


class HMCOptions(Options):
    """Options of `HMC`."""

    chains: int = Option(default=4, ge=2, le=64, description="chains an observation")
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


class HMC(Plugin, Sampler):
    """Draws from the exact posterior by NUTS in white coordinates.

    Draws of one observation are chain-major: the first `chain_sizes(n, chains)[0]` are chain 0 in
    order, and so on. Each observation's chains start at draws from the prior and depend on the seed
    and the observation's place in the batch alone.

    Attributes:
        diagnostics: of each observation of the latest call of `sample`.
    """

    Options = HMCOptions

    def __init__(
        self, simulator: Simulator, options: HMCOptions | None = None, monitor: Monitor | None = None
    ) -> None:
        """Prepare to sample.

        Raises:
            UnsupportedError: the simulator has no log density.
            PluginError: nutpie is not installed.
        """
        if not isinstance(simulator, SupportsLogDensity):
            name = type(simulator).__name__
            raise UnsupportedError(
                f"{name} has no differentiable log density, so gradient-based sampling is impossible.",
                where="sampler 'hmc'",
                expected="a simulator with the method log_density(observation) -> LogDensity",
                got=name,
                fix="use --estimator diffusion-transformer or npe, or add the method log_density",
            )
        load_nutpie()
        self.options: HMCOptions = options or HMCOptions()
        self.spec: Spec = simulator.spec
        self.diagnostics: list[Diagnostics] = []
        self._density_of: Callable[[Values], LogDensity] = simulator.log_density
        self._monitor = monitor

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
        with self._progress(count * settings.chains * (settings.warmup + settings.draws)) as advance:
            for b in range(count):
                one = {v.name: observation[v.name][b : b + 1] for v in self.spec.observables}
                columns.append(self._sample_one(one, n, settings, derive_seed(seed, "hmc", b), advance))
                self._report(b)
        return {v.name: torch.cat([draws[v.name] for draws in columns], 1) for v in self.spec.latents}

    def _settings(self, n: int) -> Settings:
        chains = self.options.chains
        return Settings(
            chains=chains,
            warmup=self.options.warmup,
            draws=max(self.options.draws, math.ceil(n / chains)),
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
        z = torch.from_numpy(chains.draws)
        labels, scalars = self._scalars(density, z)
        self.diagnostics.append(
            Diagnostics(
                labels=labels,
                r_hat=tuple(r_hat(column) for column in scalars),
                ess=tuple(bulk_ess(column) for column in scalars),
                divergences=int(chains.divergent.sum()),
                draws=chains.divergent.size,
                seconds=time.monotonic() - started,
            )
        )
        return self._decode(density, _thin(z, n), self.spec)

    def _scalars(self, density: LogDensity, z: Tensor) -> tuple[tuple[str, ...], np.ndarray]:
        """What convergence is judged on: the latent vectors, or all white coordinates if there are none.

        Args:
            z: white coordinates (chains, draws, size).

        Returns:
            Names, and values (scalars, chains, draws).
        """
        vectors: tuple[Vector, ...] = self.spec.vectors
        if not vectors:
            return tuple(f"z{i}" for i in range(density.size)), np.moveaxis(z.numpy(), -1, 0)
        decoded = self._decode(density, z.flatten(0, 1), self.spec.select(*(v.name for v in vectors)))
        joined = torch.cat([decoded[v.name][:, 0] for v in vectors], -1).double()
        labels = tuple(label for v in vectors for label in v.labels)
        return labels, np.moveaxis(joined.unflatten(0, z.shape[:2]).numpy(), -1, 0)

    @staticmethod
    def _decode(density: LogDensity, z: Tensor, spec: Spec) -> dict[str, Tensor]:
        """Latents of `spec`, (n, 1, *shape) float32, at white coordinates (n, size)."""
        with torch.no_grad():
            parts = [density.decode(chunk.unsqueeze(1)) for chunk in z.split(_DECODE_CHUNK)]
            return {v.name: torch.cat([part[v.name].float() for part in parts]) for v in spec.latents}

    def _progress(self, total: int) -> AbstractContextManager[Callable[[int], None]]:
        return nullcontext(_ignore) if self._monitor is None else self._monitor.progress("NUTS", total)

    def _report(self, b: int) -> None:
        found = self.diagnostics[b]
        if self._monitor is None or found.trustworthy:
            return
        self._monitor.say(
            f"NUTS: do not trust the chains of observation {b}: R-hat up to {max(found.r_hat):.3f} "
            f"(wanted at most 1.01), ESS down to {min(found.ess):.0f} (wanted at least 400), "
            f"{found.divergences} divergences; more draws or warmup would help."
        )


def chain_sizes(n: int, chains: int) -> tuple[int, ...]:
    """How many of `n` chain-major draws each chain gave: equal numbers, the first ones one more."""
    share, rest = divmod(n, chains)
    return tuple(share + (chain < rest) for chain in range(chains))


def _thin(z: Tensor, n: int) -> Tensor:
    """`n` draws, chain-major (n, size), evenly spaced along each chain of (chains, draws, size)."""
    chains, draws, _ = z.shape
    kept = []
    for chain, size in zip(z, chain_sizes(n, chains), strict=True):
        # The last draw of each of `size` equal stretches.
        index = (torch.arange(1, size + 1) * draws) // max(size, 1) - 1
        kept.append(chain[index])
    return torch.cat(kept)


def _ignore(done: int) -> None:
    del done
