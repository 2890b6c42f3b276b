"""The transformer and npe of the quick preset against hmc, every figure of `agreement`."""

from __future__ import annotations

from pathlib import Path

import torch
from _kept import sampled
from _metrics import tell_metric
from _record import record

import sbikit
from _reference.problem import data, lognormal_draws, run_sbikit, trusted_rows
from _reference.scale import Scale
from sbikit import Comparison, Evidence, Sampler, Simulations


def table(folder: Path, scale: Scale) -> None:
    """Every figure of `agreement`, for the transformer and npe of the quick preset."""
    simulator, held_out, exact = lognormal_draws(folder.parent / "sbc", max(scale.sbc, scale.table[0]))
    rows = trusted_rows(exact)[: scale.table[0]]
    observation = {name: value[rows] for name, value in data(simulator, held_out).items()}
    truth = {name: value[rows] for name, value in held_out.items()}
    training = Simulations(simulator, 0).training(0, 2048)
    for name, run in (("diffusion-transformer", folder.parent / "run"), ("npe", folder.parent / "run-npe")):
        if not (run / "report.html").exists():
            less = ("sampling.observations=16", "estimator." + ("steps=8" if name == "npe" else "steps=50"))
            settings = [word for one in less for word in ("--set", one)] if scale.short else []
            run_sbikit("run", "--sim", "lognormal", "--estimator", name, *settings, "--out", str(run))
        estimator = sbikit.load("estimator", name)
        sampler: Sampler = estimator.load(
            run / "checkpoints" / "estimator", simulator, device=torch.device("cpu")
        )
        draws = sampled(folder / name, sampler, observation, scale.table[1], 7, at_once=4).values
        latents = [v.name for v in sampler.spec.latents]
        comparison = Comparison(
            "hmc",
            tuple(range(len(rows))),
            {v: exact.values[v][:, rows] for v in latents},
            {v: draws[v] for v in latents},
        )
        evidence = Evidence(sampler.spec, truth, observation, draws, training, comparison)
        for metric in sbikit.load("validator", "agreement").validate(evidence, seed=3).metrics:
            tell_metric(metric, record, f"{name}: {metric.name} of {metric.variable}")
