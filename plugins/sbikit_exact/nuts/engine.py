"""The No-U-Turn sampler of nutpie, driven by a torch log density.

Hoffman and Gelman 2014, JMLR 15, 1593; the mass matrix is learned from draws and gradients, and may
have a low-rank part (Seyboldt, Carlson and Carpenter 2026, arXiv:2603.18845). nutpie runs the chains
in threads of its own, which meet in `Lockstep` for every gradient.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbikit import PluginError, derive_seed, generator
from sbikit_exact.density import STARTS, cannot_be_sampled
from sbikit_exact.nuts.lockstep import Lockstep
from sbikit_exact.options.nuts import NUTSOptions

Array = NDArray[np.float64]

_POLL_SECONDS = 0.1  # between two looks at the chains: seldom enough to cost nothing, often enough for a bar


@dataclass(frozen=True)
class Chains:
    """What the chains did after warm-up.

    Args:
        draws: coordinates (chains, draws, size), float64.
        energies: total energy of each transition, (chains, draws).
        divergent: whether each transition diverged, (chains, draws).
        gradients: gradients of the log density, over all chains, starts and warm-up included.
    """

    draws: Array
    energies: Array
    divergent: NDArray[np.bool_]
    gradients: int


def load_nutpie() -> Any:
    """The nutpie package.

    Raises:
        PluginError: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            # nutpie imports arviz, which announces its next major version once a day.
            warnings.filterwarnings("ignore", category=FutureWarning, module="arviz")
            import nutpie
    except ImportError as error:
        raise PluginError(
            f"The sampler 'nuts' needs nutpie, which cannot be imported: {error}",
            where="sbikit_exact",
            fix="pip install 'sbikit[nuts]'",
        ) from error
    return nutpie


def run_nuts(
    log_prob: Callable[[Tensor], Tensor],
    size: int,
    options: NUTSOptions,
    *,
    seed: int,
    advance: Callable[[int], None],
) -> Chains:
    """Sample a density on white coordinates from starts drawn from N(0, 1).

    Args:
        log_prob: (chains, size) float64 -> (chains,), differentiable.
        size: number of white coordinates.
        options: how to run the chains.
        seed: fixes starts and draws.
        advance: told the number of new transitions, warm-up included, a few times a second.

    Raises:
        PluginError: nutpie is not installed.
        SimulationError: the log density raised, or is not finite at any start.
    """
    nutpie = load_nutpie()
    from nutpie.compiled_pyfunc import from_pyfunc

    target = _Target(Lockstep(log_prob, options.chains), size, options, seed)
    model = from_pyfunc(
        size,
        make_logp_fn=target.make_log_density,
        make_expand_fn=target.make_expand,
        expanded_dtypes=[np.dtype("float64")],
        expanded_shapes=[(size,)],
        expanded_names=["z"],
        make_initial_point_fn=target.start,
    )
    sampler = nutpie.sample(
        model,
        draws=options.draws,
        tune=options.warmup,
        chains=options.chains,
        cores=options.chains,
        seed=derive_seed(seed, "nuts"),
        maxdepth=options.max_depth,
        target_accept=options.target_accept,
        low_rank_modified_mass_matrix=options.low_rank,
        save_warmup=False,
        progress_bar=False,
        blocking=False,
    )
    trace = _wait(sampler, target, advance)
    return Chains(
        draws=np.asarray(trace.posterior["z"].values),
        energies=np.asarray(trace.sample_stats["energy"].values),
        divergent=np.asarray(trace.sample_stats["diverging"].values, dtype=bool),
        gradients=target.density.gradients,
    )


class _Target:
    """What nutpie calls, from one thread a chain."""

    def __init__(self, density: Lockstep, size: int, options: NUTSOptions, seed: int) -> None:
        self.density = density
        self.transitions = 0
        self._size = size
        self._transitions_a_chain = options.warmup + options.draws
        self._seed = seed

    def make_log_density(self) -> Lockstep:
        return self.density

    def start(self, chain_seed: int) -> Array:
        """A draw from the prior at which the density is finite."""
        source = generator(derive_seed(self._seed, "start", chain_seed))
        for _ in range(STARTS):
            z = torch.randn(self._size, generator=source, dtype=torch.float64).numpy()
            if self.density.error is not None or self.density.is_finite(z):
                return z
        self.density.stop(ValueError(f"not finite at any of {STARTS} draws from the prior"))
        return z

    def make_expand(self, seed1: int, seed2: int, chain: int) -> Callable[[Array], dict[str, Array]]:
        """A function that nutpie calls once a transition; the last call tells that the chain is done."""
        del seed1, seed2, chain
        done = 0

        def expand(z: Array) -> dict[str, Array]:
            nonlocal done
            done += 1
            self.transitions += 1
            if done == self._transitions_a_chain:
                self.density.leave()
            return {"z": np.array(z)}

        return expand


def _wait(sampler: Any, target: _Target, advance: Callable[[int], None]) -> Any:
    """Wait for the trace, telling `advance` of new transitions meanwhile."""
    told = 0
    trace = None
    try:
        while trace is None and target.density.error is None:
            with suppress(TimeoutError):
                trace = sampler.wait(timeout=_POLL_SECONDS)
            now = target.transitions
            advance(now - told)
            told = now
    except BaseException as error:
        target.density.stop(InterruptedError(str(error)))
        sampler.cancel()
        raise
    if target.density.error is not None:
        if trace is None:
            sampler.cancel()
        cause = target.density.error
        raise cannot_be_sampled(f"{type(cause).__name__}: {cause}") from cause
    return trace
