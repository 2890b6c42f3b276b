"""Whether parameters and map of one draw belong together: what no marginal shows.

Within the draws of one observation, a parameter's correlation with a summary of the map is a number that
the exact posterior fixes. Draws whose parameters and maps are right each for itself, but paired at random,
have correlation 0. The last column is the multiple correlation with all summaries of the map (the
correlation with their best linear combination, fitted on the same draws: biased by finite n, as its floor
is).
"""

from __future__ import annotations

import numpy as np

from sbikit import Curve
from sbikit_calibration.agreement_figures import Floats

REGRESSION = "regression"
_BINS = 10


def correlations(scalars: Floats, summaries: Floats) -> Floats:
    """Correlations of scalars (n, D) with summaries (n, S) and their best combination, (D, S + 1)."""
    x, y = _standardised(summaries), _standardised(scalars)
    single = y.T @ x / len(x)
    fitted = x @ np.linalg.lstsq(x, y, rcond=None)[0]
    together = np.sqrt(np.clip((fitted**2).mean(0), 0.0, 1.0))
    return np.concatenate([single, together[:, None]], 1)


def _standardised(x: Floats) -> Floats:
    """Columns with mean 0 and standard deviation 1; 0 where constant."""
    centred = x - x.mean(0)
    sd = centred.std(0)
    varied = sd > 1e-12 * np.abs(x).max(0)
    return np.where(varied, centred / np.where(varied, sd, 1.0), 0.0)


def coherence_curve(variable: str, found: Floats) -> Curve:
    """Correlation in the draws against that in a half of the reference; ideal: in its other half.

    A half's correlation scatters, so where it is high it is high by chance, too: the other half, and exact
    draws, fall back towards the mean. The dashed line shows by how much.

    Args:
        variable: the scalar's name.
        found: correlations of S summaries in the draws and in the two halves, (R, 3, S).
    """
    R, _, S = found.shape
    x = np.concatenate([found[:, 1].ravel(), found[:, 2].ravel()])
    y = np.concatenate([found[:, 0].ravel()] * 2)
    ideal = np.concatenate([found[:, 2].ravel(), found[:, 1].ravel()])
    owner = np.tile(np.repeat(np.arange(R), S), 2)
    edges = np.quantile(x, np.linspace(0, 1, _BINS + 1)[1:-1])
    label = np.searchsorted(edges, x)
    rows = [_bin(x[m], y[m], ideal[m], owner[m]) for m in (label == k for k in range(_BINS)) if m.any()]
    at, mean, error, expected = (np.array(column) for column in zip(*rows, strict=True))
    return Curve(
        "coherence",
        variable,
        tuple(at.tolist()),
        tuple(mean.tolist()),
        tuple((mean - 1.96 * error).tolist()),
        tuple((mean + 1.96 * error).tolist()),
        tuple(expected.tolist()),
        "correlation in half of the reference",
        "the same in the draws",
    )


def _bin(x: Floats, y: Floats, ideal: Floats, owner: Floats) -> tuple[float, float, float, float]:
    """Means, and the error of that of y when only observations are independent."""
    mean = float(y.mean())
    totals = np.bincount(owner.astype(np.intp), y - mean)
    return float(x.mean()), mean, float(np.sqrt((totals**2).sum())) / len(y), float(ideal.mean())
