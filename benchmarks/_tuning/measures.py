"""Draws (n, B, *shape) beside exact ones (m, B, *shape)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from scipy import stats
from torch import Tensor

Figures = list[tuple[str, float, float | None, float | None]]
"""Name, value, standard error and ideal."""

# What the means of 1,000 draws of hmc are worth, about: of 48 observations the effective sizes of the chains
# were 470 to 3,400. The floor is made of it; the draws that are judged are fewer and rule it.
EFFECTIVE = 700
SHAPES = ("log variance", "skewness", "minimum", "maximum")


def parameters(labels: list[str], draws: Tensor, exact: Tensor) -> Figures:
    """Offsets of means beyond what as many exact draws have, their mean, and ratios of widths."""
    sd, count = exact.std(0), exact.shape[1]
    offset = (draws.mean(0) - exact.mean(0)) / sd
    floor = 1.0 / len(draws) + 1.0 / EFFECTIVE
    ratio = (draws.std(0) / sd).log()
    found: Figures = []
    for i, label in enumerate(labels):
        squares = offset[:, i].square()
        excess = float((squares.mean() - floor).clamp_min(0.0).sqrt())
        error = float(squares.std()) / count**0.5 / (2.0 * max(excess, 0.02))
        found += [
            (f"offset of the mean of {label} beyond the floor, rms, posterior sd", excess, error, 0.0),
            (f"mean offset of {label}, posterior sd", *_mean(offset[:, i]), 0.0),
            (f"sd of {label} over the exact one, log mean", *_mean(ratio[:, i]), 0.0),
        ]
    return found


def pixels(draws: Tensor, exact: Tensor) -> Figures:
    """Ratio of the pixels' variances."""
    ratio = (draws.var(0).flatten(1).mean(1) / exact.var(0).flatten(1).mean(1)).log()
    return [("variance of pixels over the exact one, log mean", *_mean(ratio), 0.0)]


def coherence(draws: Mapping[str, Tensor], exact: Mapping[str, Tensor]) -> Figures:
    """Correlations of parameters with what maps look like less the exact ones, their mean: rms."""
    found = _correlations(draws["theta"], _shapes(draws["kappa"]))
    truly = _correlations(exact["theta"], _shapes(exact["kappa"]))
    difference = found - truly
    spread = difference.std(0) / len(difference) ** 0.5
    rms = float(difference.mean(0).square().mean().sqrt())
    floor = float(spread.square().mean().sqrt())
    return [("coherence less the exact one, rms; the floor is its error", rms, floor, 0.0)]


def shapes(draws: Tensor, truth: Tensor) -> Figures:
    """Mean ranks of what true maps (B, C, *grid) look like among the draws', and whether they are uniform."""
    ranks = (_shapes(draws) < _shapes(truth[None])).double().mean(0)
    found: Figures = []
    for i, name in enumerate(SHAPES):
        found.append((f"mean rank of the truth's {name}", *_mean(ranks[:, i]), 0.5))
        p = float(stats.kstest(ranks[:, i].numpy(), "uniform").pvalue)
        found.append((f"p of uniform ranks of the truth's {name}", p, None, None))
    return found


def _shapes(maps: Tensor) -> Tensor:
    """Of the first channel of maps (n, B, C, *grid): (n, B, 4)."""
    flat = maps[:, :, 0].flatten(2).double()
    centred = flat - flat.mean(-1, keepdim=True)
    variance = centred.square().mean(-1)
    skewness = centred.pow(3).mean(-1) / variance**1.5
    return torch.stack([variance.log(), skewness, flat.amin(-1), flat.amax(-1)], -1)


def _correlations(theta: Tensor, summaries: Tensor) -> Tensor:
    """(n, B, P) and (n, B, S) -> (B, P, S)."""
    a, b = ((x.double() - x.double().mean(0)) / x.double().std(0) for x in (theta, summaries))
    return torch.einsum("nbp,nbs->bps", a, b) / (len(a) - 1)


def _mean(values: Tensor) -> tuple[float, float]:
    return float(values.mean()), float(values.std()) / len(values) ** 0.5
