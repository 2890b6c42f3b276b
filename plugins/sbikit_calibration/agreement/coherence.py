"""Whether parameters and map of one draw belong together: what no marginal shows.

Within the draws of one observation, a parameter's correlation with a summary of the map is a number that
the exact posterior fixes. Draws whose parameters and maps are right each for itself, but paired at random,
have correlation 0. The last column is the multiple correlation with all summaries of the map (the
correlation with their best linear combination, fitted on the same draws: biased by finite n, as its floor
is).
"""

from __future__ import annotations

import numpy as np

from sbikit_calibration.agreement.trio import Floats

REGRESSION = "regression"
_CONSTANT = 1e-12  # relative scatter that is rounding: constant columns have some 1e-16


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
    varied = sd > _CONSTANT * np.abs(x).max(0)
    return np.where(varied, centred / np.where(varied, sd, 1.0), 0.0)
