"""The accuracy of a classifier between two sets of draws (C2ST, Lopez-Paz and Oquab 2017, arXiv:1610.06545),
as sbi computes it: a multi-layer perceptron, five-fold cross-validation, draws scaled by the reference's
mean and standard deviation. 0.5 where the classifier tells nothing, 1 where the sets are disjoint.

The classifier stops early by the accuracy on a tenth of its draws. With fewer than 200 draws a side that
often ends before anything is learnt: 100 draws of two normals 5 standard deviations apart scored between
.50 and .87.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from sbikit_calibration.agreement.trio import Floats

FEWEST_FOR_C2ST = 200  # see above
_SEEDS = 2**32  # NumPy's legacy generator, which scikit-learn uses, takes seeds below


def load_c2st() -> Callable[..., Any] | None:
    """sbi's C2ST; None where sbi is not installed.

    Importing sbi draws from the global state of `random`, which is put back.
    """
    state = random.getstate()
    try:
        from sbi.utils.metrics import c2st
    except ImportError:
        return None
    finally:
        random.setstate(state)
    found: Callable[..., Any] = c2st
    return found


def accuracy(c2st: Callable[..., Any], judged: Floats, reference: Floats, seed: int) -> Floats:
    """The accuracy, shape (), for draws (n, D) each.

    The guard is not `sbikit.one_thread`, which sets torch's threads: scikit-learn multiplies by the BLAS of
    NumPy and SciPy, whose sums would depend on the number of threads that it takes for itself.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped] # what sbi needs brings it

    with threadpool_limits(limits=1):
        X, Y = torch.from_numpy(reference), torch.from_numpy(judged)
        return np.asarray(float(c2st(X, Y, seed=seed % _SEEDS, classifier="mlp")))
