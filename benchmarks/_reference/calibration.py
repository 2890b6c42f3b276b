"""Simulation-based calibration of hmc itself, MIRA and TARP."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from _record import record
from scipy.stats import kstest
from torch import Tensor

import sbikit
from _reference.problem import lognormal_draws, record_trust, trusted_rows
from _reference.scale import PARAMETERS, Scale
from sbikit import Evidence, Simulations, Values, uniforms
from sbikit.fields import power_spectrum


def scalars(draws: Values) -> Tensor:
    """Parameters, log variance, minimum, maximum and large-scale power of the map, (n, B, S)."""
    kappa = draws["kappa"][..., 0, :, :]
    power = power_spectrum(kappa.numpy(), (1.0, 1.0), bins=4).power[..., 0]
    flat = kappa.flatten(-2)
    summaries = [flat.var(-1).log(), flat.amin(-1), flat.amax(-1), torch.from_numpy(np.log(power)).float()]
    return torch.cat([draws["theta"], torch.stack(summaries, -1)], -1)


def sbc(folder: Path, scale: Scale) -> None:
    """Ranks of parameters and map summaries among hmc's draws, MIRA and TARP."""
    simulator, held_out, draws = lognormal_draws(folder, scale.sbc)
    record_trust(f"hmc: observations that can be trusted, of {len(draws)}", draws)
    least = min(one.value("bulk ESS") for one in draws.trust)
    record("hmc: smallest effective sample size of a parameter", least, None)
    rows = trusted_rows(draws)
    thinned = {key: value[4::10] for key, value in draws.select(rows).values.items()}
    truth = {key: value[rows] for key, value in held_out.items()}
    names = (*PARAMETERS, "log variance", "minimum", "maximum", "large-scale power")
    ranks = uniform_ranks(scalars(truth), scalars(thinned))
    for name, column in zip(names, ranks.T, strict=True):
        p = float(kstest(column, "uniform").pvalue)
        record(f"SBC of hmc: p of uniform ranks, {name}", p, None, goal="above .005", ok=p > 0.005)
    pixel = uniform_ranks(
        truth["kappa"][:, :, ::8, ::8].flatten(1), thinned["kappa"][..., ::8, ::8].flatten(2)
    )
    z = (pixel.mean(1) - 0.5) * math.sqrt(12.0)
    record("SBC of hmc: mean rank of 16 pixels, sd from 1/2", float(z.mean()), float(z.std() / len(z) ** 0.5))
    training = Simulations(simulator, 0).training(0, 2048)
    evidence = Evidence(simulator.spec, truth, {n: truth[n] for n in simulator.observed}, thinned, training)
    for validator in ("mira", "tarp"):
        found = sbikit.load("validator", validator).validate(evidence, seed=5)
        for metric in found.metrics:
            if metric.verdict == "none":
                continue
            record(
                f"{metric.name} of {metric.variable}, draws of hmc",
                metric.value,
                metric.error,
                goal=f"{metric.ideal:.4g}, within what the number of verdicts allows",
                ok=metric.verdict == "pass",
            )


def uniform_ranks(truth: Tensor, draws: Tensor) -> np.ndarray:
    """Ranks of truths (B, S) among draws (n, B, S) on [0, 1], ties and steps spread evenly."""
    below = (draws < truth).sum(0).double().numpy()
    spread = uniforms(np.arange(below.size, dtype=np.int64), 1).reshape(below.shape)
    return (below + spread) / (len(draws) + 1)
