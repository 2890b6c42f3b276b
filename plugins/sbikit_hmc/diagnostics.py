"""Has a set of Markov chains converged? Rank-normalised split R-hat and bulk effective sample size.

Vehtari, Gelman, Simpson, Carpenter, Burkner 2021, Bayesian Analysis 16, 667 (arXiv:1903.08008).
Every chain is cut in half; the draws of all halves are replaced by normal scores of their ranks,
z = Phi^-1((rank - 3/8) / (S + 1/4)). With W the mean variance within a half chain of n draws, B/n the
variance of the M half chains' means, and V = (n-1)/n W + B/n,

    R-hat = sqrt(V / W), the larger of the scores' and of those of |x - median|,
    ESS = M n / tau,   tau = -1 + 2 sum_t P_t,   P_t = rho_2t + rho_2t+1,

where rho_t = 1 - (W - mean autocovariance at lag t) / V, and P_t is cut at its first negative entry
and made non-increasing (Geyer 1992, doi:10.1214/ss/1177011137).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import rankdata

Chains = NDArray[np.float64]
"""Draws of one scalar, (chains, draws)."""

R_HAT_LIMIT = 1.01
ESS_LIMIT = 400.0


@dataclass(frozen=True)
class Diagnostics:
    """How far the chains of one observation can be trusted.

    Args:
        labels: names of the scalars judged.
        r_hat: rank-normalised split R-hat of each; 1 when converged.
        ess: bulk effective sample size of each.
        divergences: divergent transitions after warm-up, over all chains.
        draws: draws after warm-up, over all chains.
        seconds: wall time.

    Attributes:
        trustworthy: R-hat at most 1.01 and ESS at least 400 for every scalar, as the reference advises.
    """

    labels: tuple[str, ...]
    r_hat: tuple[float, ...]
    ess: tuple[float, ...]
    divergences: int
    draws: int
    seconds: float
    trustworthy: bool = field(init=False)

    def __post_init__(self) -> None:
        good = max(self.r_hat) <= R_HAT_LIMIT and min(self.ess) >= ESS_LIMIT
        object.__setattr__(self, "trustworthy", good)


def r_hat(x: Chains) -> float:
    """Rank-normalised split R-hat of draws (chains, draws); infinite if a chain never moved."""
    halves = _split(x)
    folded = np.abs(halves - np.median(halves))
    return max(_scale_reduction(_scores(halves)), _scale_reduction(_scores(folded)))


def bulk_ess(x: Chains) -> float:
    """Bulk effective sample size of draws (chains, draws); 0 if a chain never moved."""
    halves = _split(x)
    if _stuck(halves):
        return 0.0
    return _effective_size(_scores(halves))


def _split(x: Chains) -> Chains:
    """(chains, draws) to (2 chains, draws // 2); the middle draw of an odd number is left out."""
    half = x.shape[1] // 2
    return np.concatenate([x[:, :half], x[:, -half:]])


def _stuck(x: Chains) -> bool:
    return bool((np.ptp(x, axis=1) == 0).any())


def _scores(x: Chains) -> Chains:
    return ndtri((rankdata(x).reshape(x.shape) - 0.375) / (x.size + 0.25))


def _scale_reduction(x: Chains) -> float:
    n = x.shape[1]
    within = x.var(axis=1, ddof=1).mean()
    if _stuck(x):
        return math.inf
    between = x.mean(axis=1).var(ddof=1)
    return math.sqrt((n - 1) / n + between / within)


def _autocovariance(x: Chains) -> Chains:
    """Autocovariance of each row at lags 0 to n-1, each sum divided by n."""
    n = x.shape[1]
    spectrum = np.fft.rfft(x - x.mean(axis=1, keepdims=True), 2 * n, axis=1)
    return np.fft.irfft(np.abs(spectrum) ** 2, axis=1)[:, :n] / n


def _effective_size(x: Chains) -> float:
    n = x.shape[1]
    covariance = _autocovariance(x).mean(axis=0)
    within = covariance[0] * n / (n - 1)
    total = covariance[0] + x.mean(axis=1).var(ddof=1)
    rho = 1.0 - (within - covariance) / total
    rho[0] = 1.0
    pairs = rho[: n - n % 2].reshape(-1, 2).sum(axis=1)
    positive = np.cumprod(pairs > 0).astype(bool)
    tau = -1.0 + 2.0 * np.minimum.accumulate(pairs)[positive].sum()
    # Antithetic chains may beat independent draws; the reference bounds by how much.
    return float(x.size / max(tau, 1.0 / math.log10(x.size)))
