"""Can Markov chains be trusted? R-hat, effective sample sizes, divergences and energy, by arviz-stats.

Vehtari, Gelman, Simpson, Carpenter, Burkner 2021, Bayesian Analysis 16, 667 (arXiv:1903.08008):
rank-normalised split R-hat, the larger one of the draws and of their distances from the median, and the
effective sample sizes of the bulk and of the tails (the worse one of the 5 % and the 95 % quantile).
Betancourt 2016 (arXiv:1604.00695): the energy's Bayesian fraction of missing information of a chain,

    E-BFMI = mean (E_t - E_{t-1})^2 / var E,

about 1 for a normal posterior; small where new momenta change the energy too little to reach the tails.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sbikit import Reading, Trust

Array = NDArray[np.float64]

R_HAT_LIMIT, ESS_LIMIT = 1.01, 400.0  # Vehtari et al., section 4
DIVERGENCE_LIMIT = 0.001  # see `ChainDiagnostics.complaints`
_TAILS = (0.05, 0.95)  # Vehtari et al., section 4.3


@dataclass(frozen=True)
class ChainDiagnostics:
    """How far the chains of one observation can be trusted.

    Args:
        labels: names of the scalars judged.
        r_hat: rank-normalised split R-hat of each; 1 when converged, infinite if a chain never moved.
        ess_bulk: effective sample size of each for its bulk; 0 if a chain never moved.
        ess_tail: effective sample size of each for its 5 % and 95 % quantiles, the smaller one.
        divergences: divergent transitions after warm-up, over all chains.
        e_bfmi: lowest E-BFMI of a chain; None where energies are not known.
        draws: draws after warm-up, over all chains.
        gradients: gradients of the log density, over all chains, warm-up included.
        seconds: wall time; of a batch of observations, an equal share.
    """

    labels: tuple[str, ...]
    r_hat: tuple[float, ...]
    ess_bulk: tuple[float, ...]
    ess_tail: tuple[float, ...]
    divergences: int
    e_bfmi: float | None
    draws: int
    gradients: int
    seconds: float

    @property
    def complaints(self) -> tuple[str, ...]:
        """What forbids trust, with the limit that it misses.

        Wanted are an R-hat of at most 1.01 and both effective sizes of at least 400 for every scalar, as
        Vehtari et al. advise, and at most 0.1 % of divergent transitions. A divergent transition is turned
        down, so the chain stays exact; many of them show a region that the step size cannot enter. One of
        0.1 % of the mass at 5 sd moves a mean by 0.005 sd, a tenth of the error that 400 draws leave.
        """
        r_hat, divergent = np.max(self.r_hat), self.divergences / self.draws
        bulk, tail = np.min(self.ess_bulk), np.min(self.ess_tail)
        # "not (good)" rather than "bad": what is not a number is not good.
        found = {
            f"R-hat up to {r_hat:.3f} (wanted at most {R_HAT_LIMIT})": not r_hat <= R_HAT_LIMIT,
            f"bulk ESS down to {bulk:.0f} (wanted at least {ESS_LIMIT:.0f})": not bulk >= ESS_LIMIT,
            f"tail ESS down to {tail:.0f} (wanted at least {ESS_LIMIT:.0f})": not tail >= ESS_LIMIT,
            f"{divergent:.2%} of the transitions diverged (wanted at most {DIVERGENCE_LIMIT:.1%})": (
                divergent > DIVERGENCE_LIMIT
            ),
        }
        return tuple(text for text, missed in found.items() if missed)

    def trust(self) -> Trust:
        """The same as every sampler says it, of the scalars the worst."""
        energy = () if self.e_bfmi is None else (Reading("E-BFMI", self.e_bfmi, worse="lower"),)
        readings = (
            Reading("R-hat", float(np.max(self.r_hat)), R_HAT_LIMIT),
            Reading("bulk ESS", float(np.min(self.ess_bulk)), ESS_LIMIT, "lower"),
            Reading("tail ESS", float(np.min(self.ess_tail)), ESS_LIMIT, "lower"),
            Reading(
                "share of divergent transitions",
                self.divergences / self.draws,
                DIVERGENCE_LIMIT,
            ),
            *energy,
            Reading("transitions", self.draws, worse="lower"),
            Reading("gradients", self.gradients),
            Reading("seconds", self.seconds),
        )
        return Trust(not self.complaints, readings, self.complaints)


def diagnose(
    labels: tuple[str, ...],
    scalars: Array,
    energies: Array | None,
    divergent: NDArray[np.bool_],
    *,
    gradients: int,
    seconds: float,
) -> ChainDiagnostics:
    """Judge the chains of one observation.

    Args:
        labels: names of the scalars.
        scalars: their draws after warm-up, (scalars, chains, draws), at least two chains.
        energies: total energy at each of them, (chains, draws); None if not known.
        divergent: whether each transition diverged, (chains, draws).
        gradients: gradients taken, warm-up included.
        seconds: wall time.
    """
    from arviz_stats.base import array_stats

    moved = _moved(scalars)
    r_hat = np.full(len(scalars), math.inf)
    ess_bulk, ess_tail = np.zeros(len(scalars)), np.zeros(len(scalars))
    if moved.any():
        r_hat[moved] = array_stats.rhat(scalars[moved])
        ess_bulk[moved] = array_stats.ess(scalars[moved], method="bulk")
        ess_tail[moved] = array_stats.ess(scalars[moved], method="tail", prob=_TAILS)
    return ChainDiagnostics(
        labels=labels,
        r_hat=tuple(r_hat.tolist()),
        ess_bulk=tuple(ess_bulk.tolist()),
        ess_tail=tuple(ess_tail.tolist()),
        divergences=int(divergent.sum()),
        e_bfmi=None if energies is None else _lowest_e_bfmi(energies),
        draws=divergent.size,
        gradients=gradients,
        seconds=seconds,
    )


def _moved(scalars: Array) -> NDArray[np.bool_]:
    """Whether every half chain of each scalar is finite and moved; the formulas divide by its variance."""
    half = scalars.shape[-1] // 2
    halves = np.concatenate([scalars[..., :half], scalars[..., -half:]], axis=1)
    return np.isfinite(scalars).all((1, 2)) & (halves != halves[..., :1]).any(-1).all(-1)


def _lowest_e_bfmi(energies: Array) -> float:
    """The lowest over chains; 0 where an energy is not finite or never changed."""
    from arviz_stats.base import array_stats

    if not np.isfinite(energies).all() or (energies == energies[:, :1]).all(-1).any():
        return 0.0
    return float(array_stats.bfmi(energies).min())
