"""How much sharper than the prior the posterior is: 1 - E[posterior variance] / prior variance.

It belongs beside every test of calibration: the prior itself is calibrated, with contraction 0.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sbikit import Evidence, Metric, Variable, Vector, mean_and_error
from sbikit_calibration.coverage.distance import JOINT, TINY

_CHUNK = 2**21  # numbers in flight, 16 MiB: fewer take more passes, more take memory


def contraction(evidence: Evidence) -> list[Metric]:
    """The contraction of every latent, of every scalar of a vector, and the mean over latents."""
    metrics = []
    ratios, variances = [], []
    posteriors = _posterior(evidence)
    for variable in evidence.spec.latents:
        posterior, prior = posteriors[variable.name], _prior(variable, evidence.training[variable.name])
        ratio, error = _ratio(posterior.mean(1), prior.mean(1))
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


def _posterior(evidence: Evidence) -> dict[str, Tensor]:
    """Posterior variance: of each scalar of a vector (B, D), of a field its mean over the pixels (B, 1)."""
    found: dict[str, list[Tensor]] = {v.name: [] for v in evidence.spec.latents}
    for block in evidence.blocks():
        for variable in evidence.spec.latents:
            draws = block.draws[variable.name]
            # In float64, one observation at a time: in float32 squares of 1e-23 vanish.
            each = (draws[:, i].double().var(0) for i in range(draws.shape[1]))
            found[variable.name] += [_of_one(variable, variance) for variance in each]
    return {name: torch.cat(rows) for name, rows in found.items()}


def _prior(variable: Variable, training: Tensor) -> Tensor:
    """The same of training simulations (M, *shape): squared deviations, (M, D) or (M, 1)."""
    M, flat = len(training), training.flatten(1)
    mean = torch.cat([part.double().mean(0) for part in flat.split(max(1, _CHUNK // M), 1)])
    squares = ((row.double() - mean).square() * (M / (M - 1)) for row in flat)
    return torch.cat([_of_one(variable, square) for square in squares])


def _of_one(variable: Variable, values: Tensor) -> Tensor:
    """Of one observation or simulation (*shape): each scalar of a vector (1, D), a field's mean (1, 1)."""
    rows = values.reshape(1, -1)
    return rows if isinstance(variable, Vector) else rows.mean(1, keepdim=True)


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
