"""HMC as a sampler: the exact posterior of a log density, for many observations at once."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from typing import Self

import torch
from pydantic import Field as Option
from pydantic import model_validator
from torch import Tensor

from sbikit import (
    LogDensity,
    Monitor,
    Options,
    Plugin,
    QuietMonitor,
    Sampler,
    SbikitError,
    SimulationError,
    Simulator,
    Spec,
    Values,
    check_observation,
)
from sbikit.problem.seeds import derive_seed
from sbikit_exact.chains import chain_sizes, decode, log_density_of, thin
from sbikit_exact.diagnostics import Diagnostics
from sbikit_exact.hmc import Ensemble, Settings
from sbikit_exact.record import Record

_NUMBERS = 2**18  # coordinates of a batch that still lie in a processor's cache
_LEAST_ROWS, _MOST_ROWS = 16, 128
_LEAST_BATCHES = 2  # of several observations, so that two threads have work
_GPU_ROWS = 1024


class HMCOptions(Options):
    """Options of `HMC`."""

    chains: int = Option(
        default=4,
        ge=2,
        le=256,
        multiple_of=2,
        description="chains an observation; one half of them gives the first half of the draws",
    )
    warmup: int = Option(
        default=200, ge=50, le=100_000, description="transitions a chain that adapt and are dropped"
    )
    draws: int = Option(
        default=400,
        ge=50,
        le=1_000_000,
        description="least number of kept transitions a chain; they are thinned to what is asked for",
    )
    max_draws: int = Option(
        default=6400,
        ge=50,
        le=1_000_000,
        description="kept transitions a chain up to which observations that cannot be trusted go on",
    )
    path: float = Option(
        default=2.5,
        gt=0.0,
        le=100.0,
        description="mean angle in radians by which a transition turns a normal posterior",
    )
    target_accept: float = Option(
        default=0.9, ge=0.5, lt=1.0, description="acceptance rate that the step size is tuned to"
    )

    @model_validator(mode="after")
    def _most_is_not_least(self) -> Self:
        if self.max_draws < self.draws:
            raise ValueError(f"max_draws ({self.max_draws}) must be at least draws ({self.draws})")
        return self


class HMC(Plugin, Sampler):
    """Draws from the exact posterior by Hamiltonian Monte Carlo in the coordinates of the log density.

    Chains and observations advance together in batches, as many batches at a time as torch has threads.
    Chains start at draws from N(0, 1) in the coordinates, never at the truth. Observations whose chains
    cannot be trusted yet go on, each time twice as far, up to the option `max_draws`.

    Draws of one observation are chain-major: the first `chain_sizes(n, chains)[0]` are chain 0 in order, and
    so on; the first n // 2 and the others come from different chains. Draws for one observation depend on the
    seed and on the observation's place in the batch alone, to rounding.

    The log density is called from several threads at once, for different observations.

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
        """
        self._density_of: Callable[[Values], LogDensity] = log_density_of(simulator, "hmc")
        self.options: HMCOptions = options or HMCOptions()
        self.spec: Spec = simulator.spec
        self.diagnostics: list[Diagnostics] = []
        self._monitor: Monitor = monitor or QuietMonitor()
        self._device = self._monitor.device

    def sample(self, observation: Values, n: int, *, seed: int) -> dict[str, Tensor]:
        """Draw `n` joint samples for each of B observations; see `Sampler.sample`.

        Raises:
            ObservationError: the observation does not fit the simulator.
            SimulationError: the log density raised or is not finite.
        """
        count = check_observation(observation, self.spec)
        observation = {
            v.name: torch.as_tensor(observation[v.name]).to(self._device) for v in self.spec.observables
        }
        each = self._observations_at_once(observation) if count else 1
        groups = [range(first, min(first + each, count)) for first in range(0, count, each)]
        work = count * self.options.chains * (self.options.warmup + self._draws(n))
        self.diagnostics = []
        with self._monitor.progress("HMC", work) as advance:
            told = _one_at_a_time(advance)
            jobs = [_Job(self, observation, group, n=n, seed=seed, advance=told) for group in groups]
            _do(jobs, 1 if self._device.type == "cuda" else torch.get_num_threads())
        self.diagnostics = [found for job in jobs for found in job.diagnostics]
        self._report()
        none = {v.name: torch.empty(n, 0, *v.shape) for v in self.spec.latents}
        parts = [none, *(job.latents for job in jobs)]
        return {v.name: torch.cat([part[v.name] for part in parts], 1) for v in self.spec.latents}

    def _observations_at_once(self, observation: Values) -> int:
        """How many observations make a batch; the same on every processor, so that draws are, too."""
        with _errors_of_the_density():
            size = self._density_of({name: value[:1] for name, value in observation.items()}).size
        count = len(next(iter(observation.values())))
        if self._device.type == "cuda":
            return max(1, _GPU_ROWS // self.options.chains)
        rows = min(_MOST_ROWS, max(_LEAST_ROWS, _NUMBERS // size))
        return max(1, min(rows // self.options.chains, math.ceil(count / _LEAST_BATCHES)))

    def _draws(self, n: int) -> int:
        """Transitions a chain that are kept at first."""
        return max(self.options.draws, *chain_sizes(n, self.options.chains))

    def _report(self) -> None:
        doubtful = [found for found in self.diagnostics if not found.trustworthy]
        if not doubtful:
            return
        worst = max(doubtful, key=lambda found: max(found.r_hat))
        self._monitor.say(
            f"HMC: do not trust the chains of {len(doubtful)} of {len(self.diagnostics)} observations; the "
            f"worst: {'; '.join(worst.complaints)}. More max_draws or warmup would help."
        )


class _Job:
    """One batch of observations, from the first start to draws of the latents.

    Args:
        sampler: whose options and simulator these are.
        observation: all observations.
        group: which of them.
        n: draws wanted of each.
        seed: fixes the draws.
        advance: told of transitions done.
    """

    def __init__(
        self,
        sampler: HMC,
        observation: Values,
        group: range,
        *,
        n: int,
        seed: int,
        advance: Callable[[int], None],
    ) -> None:
        self._sampler, self._n, self._seed, self._advance = sampler, n, seed, advance
        self._group = group
        self._observation = {name: value[group.start : group.stop] for name, value in observation.items()}
        self._found: dict[int, tuple[Diagnostics, dict[str, Tensor]]] = {}
        self._began = time.monotonic()
        self._stopped = threading.Event()

    @property
    def diagnostics(self) -> list[Diagnostics]:
        """Of each observation."""
        return [self._found[b][0] for b in range(len(self._group))]

    @property
    def latents(self) -> dict[str, Tensor]:
        """Draws, each (n, B, *shape)."""
        parts = [self._found[b][1] for b in range(len(self._group))]
        return {name: torch.cat([part[name] for part in parts], 1) for name in parts[0]}

    def run(self, stopped: threading.Event) -> None:
        """Do it, or give up soon after `stopped` is set."""
        self._began, self._stopped = time.monotonic(), stopped
        sampler, options = self._sampler, self._sampler.options
        going = list(range(len(self._group)))
        density = self._density(going)
        chains = Ensemble(
            self._density,
            Settings(options.chains, options.warmup, options.path, options.target_accept),
            [derive_seed(self._seed, "hmc", self._group.start + b) for b in going],
            derive_seed(self._seed, "path"),
            sampler._device,
        )
        chains.warm_up(self._advance)
        record = Record(
            chains.run(sampler._draws(self._n), self._advance), density, sampler.spec, sampler._device
        )
        while True:
            settled = self._settle(record, going, chains.gradients.tolist())
            keep = [i for i in range(len(going)) if i not in settled]
            if not keep:
                return
            going = [going[i] for i in keep]
            density = self._density(going)
            chains.keep(keep)
            record.keep(keep)
            more = min(record.draws, options.max_draws - record.draws)
            record.extend(chains.run, more, density)

    def _density(self, rows: list[int]) -> LogDensity:
        """The density of some observations, which gives up when the job is stopped."""
        density = self._sampler._density_of({name: value[rows] for name, value in self._observation.items()})

        def log_prob(z: Tensor) -> Tensor:
            if self._stopped.is_set():
                raise _StoppedError
            return density.log_prob(z)

        return replace(density, log_prob=log_prob)

    def _settle(self, record: Record, going: list[int], gradients: list[int]) -> list[int]:
        """Keep what is trusted, or has gone far enough; gives its places among `going`."""
        settled = []
        share = (time.monotonic() - self._began) / len(self._group)
        for i, b in enumerate(going):
            found = record.diagnose(i, gradients[i], share)
            if not found.trustworthy and record.draws < self._sampler.options.max_draws:
                continue
            settled.append(i)
            z = thin(record.z[:, :, i : i + 1], self._n).to(self._sampler._device).double()
            self._found[b] = (found, decode(self._density([b]), z, self._sampler.spec))
        return settled


# --- threads --------------------------------------------------------------------------------


class _StoppedError(Exception):
    """Another job failed, or the user wants no more."""


def _do(jobs: list[_Job], workers: int) -> None:
    """Run the jobs, as many at a time as there are workers, each on one thread.

    Raises:
        SimulationError: what the density raised.
    """
    stopped, threads = threading.Event(), torch.get_num_threads()
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            futures = [pool.submit(job.run, stopped) for job in jobs]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                stopped.set()
    finally:
        torch.set_num_threads(threads)  # threads that are yet to come would have one, too
    causes = [future.exception() for future in futures]
    for cause in causes:
        if cause is not None and not isinstance(cause, _StoppedError):
            with _errors_of_the_density():
                raise cause


@contextmanager
def _errors_of_the_density() -> Iterator[None]:
    """What the simulator raises, as our own error.

    Raises:
        SimulationError: anything but our own errors and interruptions was raised.
    """
    try:
        yield
    except SbikitError:
        raise
    except Exception as cause:
        raise SimulationError(
            f"The log density cannot be sampled: {type(cause).__name__}: {cause}",
            where="log_density of the simulator",
            expected="finite values and gradients at coordinates drawn from N(0, 1)",
            fix="mend log_density there",
        ) from cause


def _one_at_a_time(advance: Callable[[int], None]) -> Callable[[int], None]:
    """The same, for threads: no monitor need be ready for several at once."""
    lock = threading.Lock()

    def told(done: int) -> None:
        with lock:
            advance(done)

    return told
