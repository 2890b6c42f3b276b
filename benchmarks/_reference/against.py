"""hmc and nuts against the analytic posterior of the Gaussian mode; nuts against hmc on log-normal maps."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from _kept import sampled
from _record import record
from torch import Tensor

import sbikit
from _reference.calibration import scalars
from _reference.problem import data, observed, posterior, record_trust
from _reference.scale import PARAMETERS, Scale
from sbikit import Values


def gaussian(folder: Path, scale: Scale) -> None:
    """Offsets of means, ratios of sds and C2ST between each sampler and the analytic posterior."""
    simulator = sbikit.load("simulator", "lognormal", size=32, field="gaussian")
    held_out = data(simulator, observed(simulator, scale.gaussian))
    wiener = posterior("wiener", simulator)
    exact = sampled(folder / "wiener", wiener, held_out, 2 * scale.draws, 1, at_once=4).values
    each = scale.draws // 4
    for name, count, options in (
        ("wiener, floor", scale.gaussian, {}),
        ("hmc", scale.gaussian, {"draws": 3 * each, "max_draws": 3 * each}),
        ("nuts", scale.nuts, {"draws": 2 * each, "warmup": scale.engine[0]}),
    ):
        some = {key: value[:count] for key, value in held_out.items()}
        if "floor" in name:
            draws = {key: value[scale.draws :] for key, value in exact.items()}
        else:
            sampler = posterior(name, simulator, **options)
            found = sampled(folder / name, sampler, some, scale.draws, 2, at_once=8)
            draws = dict(found.values)
            record_trust(f"{name}: observations that can be trusted, of {count}", found)
        compare(name, {key: value[: scale.draws, :count] for key, value in exact.items()}, draws)


def compare(name: str, exact: Values, draws: Values, against: str = "the analytic posterior") -> None:
    """The figures of one sampler against draws to go by; errors are those between observations."""
    from sbi.utils.metrics import c2st

    theta, other = exact["theta"].double(), draws["theta"].double()
    count = theta.shape[1]
    offset = (other.mean(0) - theta.mean(0)) / theta.std(0)
    ratio = other.std(0) / theta.std(0)
    for i, label in enumerate(PARAMETERS):
        bias = float(offset[:, i].mean())
        error = standard_error(offset[:, i])
        record(
            f"{name}: offset of the mean of {label}, sd", bias, error, goal="within .05", ok=abs(bias) <= 0.05
        )
        mean = float(ratio[:, i].log().mean().exp())
        record(
            f"{name}: ratio of sds of {label}",
            mean,
            standard_error(ratio[:, i]),
            goal="1 within 3 %",
            ok=abs(mean - 1.0) <= 0.03,
            ratio_to=against,
        )
    record(
        f"{name}: rms offset over parameters and observations, sd", float(offset.square().mean().sqrt()), None
    )
    summary, others = (scalars(one) for one in (exact, draws))
    scores = []
    for b in range(min(count, 8)):
        few = slice(None, None, max(1, len(summary) // 2000))
        scores.append(float(c2st(summary[few, b], others[few, b], seed=b)))
    mean = float(np.mean(scores))
    record(
        f"{name}: C2ST of parameters and four map summaries",
        mean,
        standard_error(torch.tensor(scores)),
        goal="at most .52",
        ok=mean <= 0.52,
    )


def standard_error(values: Tensor) -> float | None:
    """Standard error of the mean; None of a single value."""
    return float(values.double().std() / math.sqrt(len(values))) if len(values) > 1 else None


def both(folder: Path, scale: Scale) -> None:
    """Offsets, ratios of sds and C2ST between nuts and hmc on the same log-normal observations."""
    simulator = sbikit.load("simulator", "lognormal")
    held_out = data(simulator, observed(simulator, scale.both))
    each = scale.draws // 4
    hmc = posterior("hmc", simulator, draws=3 * each, max_draws=3 * each)
    nuts = posterior("nuts", simulator, draws=2 * each, warmup=scale.engine[0])
    exact = sampled(folder / "hmc", hmc, held_out, scale.draws, 3, at_once=8)
    other = sampled(folder / "nuts", nuts, held_out, scale.draws, 4, at_once=1)
    for name, found in (("hmc", exact), ("nuts", other)):
        record_trust(f"{name}, log-normal: observations that can be trusted, of {scale.both}", found)
    compare("nuts against hmc", exact.values, other.values, "hmc")
