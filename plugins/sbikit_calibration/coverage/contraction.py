"""How much sharper than the prior the posterior is: 1 - E[posterior variance] / prior variance.

It belongs beside every test of calibration: the prior itself is calibrated, with contraction 0.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sbikit import Evidence, Metric, Vector, mean_and_error
from sbikit_calibration.coverage.distance import JOINT, TINY


def contraction(evidence: Evidence) -> list[Metric]:
    """The contraction of every latent, of every scalar of a vector, and the mean over latents."""
    metrics = []
    ratios, variances = [], []
    for variable in evidence.spec.latents:
        posterior, prior = _variances(evidence, variable.name)
        ratio, error = _ratio(posterior.flatten(1).mean(1), prior.flatten(1).mean(1))
        if isinstance(variable, Vector):
            single = [_ratio(posterior[:, i], prior[:, i]) for i in range(len(variable.labels))]
            for label, (r, e) in zip(variable.labels, single, strict=True):
                metrics.append(_metric("contraction", f"{variable.name}.{label}", r, e))
            ratio, error = _mean([r for r, _ in single], [e for _, e in single])
        metrics.append(_metric("contraction", variable.name, ratio, error))
        ratios.append(ratio)
        variances.append(error)
    if len(ratios) > 1:
        metrics.append(_metric("contraction", JOINT, *_mean(ratios, variances)))
    return metrics


def _variances(evidence: Evidence, name: str) -> tuple[Tensor, Tensor]:
    """Posterior variance of every observation (B, *shape), squared deviations of training (M, *shape)."""
    # In float64, one observation at a time: in float32 squares of 1e-23 vanish.
    draws = evidence.draws[name]
    posterior = torch.stack([draws[:, b].double().var(0) for b in range(draws.shape[1])])
    training = evidence.training[name].double()
    M = len(training)
    return posterior, (training - training.mean(0)).square() * (M / (M - 1))


def _ratio(posterior: Tensor, prior: Tensor) -> tuple[float, float]:
    """Ratio of the means of (B,) and (M,), and its standard error."""
    top, top_error = mean_and_error(posterior.numpy())
    bottom, bottom_error = mean_and_error(prior.numpy())
    bottom = max(bottom, TINY)
    ratio = top / bottom
    return ratio, math.hypot(top_error, ratio * bottom_error) / bottom


def _mean(values: list[float], errors: list[float]) -> tuple[float, float]:
    """The mean, and an error that holds however the terms are correlated."""
    terms = torch.tensor([values, errors], dtype=torch.float64).mean(1).tolist()
    return terms[0], terms[1]


def _metric(name: str, variable: str, ratio: float, error: float) -> Metric:
    return Metric(
        name,
        variable,
        1.0 - ratio,
        error,
        None,
        "none",
        "share of the prior variance that the data removed: 0 is the prior, 1 is certainty",
    )
