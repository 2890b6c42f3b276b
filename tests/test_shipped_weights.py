"""All weights that ship: record and weights belong together, are small, pass, and draw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sbikit import Field, Simulations, draw_seeds
from sbikit.cli.terminal import console
from sbikit.plugins.hookspecs import Pretrained
from sbikit.plugins.installed import catalogue
from sbikit.roles.sampler import Sampler
from sbikit.runs import devices
from sbikit.runs.config import load_config, read_config
from sbikit.runs.console_monitor import ConsoleMonitor
from sbikit.runs.devices import Devices
from sbikit.runs.draft import presets
from sbikit.runs.familiar import Wary
from sbikit.runs.job import Run
from sbikit.runs.new_data import wary
from sbikit.runs.pretrained import DIGESTS, PROVENANCE, Shipped, digests, open_shipped
from sbikit.runs.shipping import MOST_BYTES, largest_file, named_paths
from sbikit.storage.metrics import read_metrics

NONE = pytest.param(None, id="none", marks=pytest.mark.skip("no weights ship yet"))
SHIPPED = [pytest.param(found.pretrained, id=found.pretrained.name) for found in catalogue().pretrained]
pytestmark = pytest.mark.parametrize("pretrained", SHIPPED or [NONE])


TRUTHS = 48


def like_standard_normals(scores: NDArray[np.float64]) -> bool:
    """Whether columns of scores (TRUTHS, D) have mean 0 within 5 sd, variance 1 within a factor of 2.5."""
    means, variances = scores.mean(0), scores.var(0)
    return bool((np.abs(means) < 5 / TRUTHS**0.5).all() and (np.abs(np.log(variances)) < np.log(2.5)).all())


def opened(shipped: Shipped) -> tuple[Run, Sampler]:
    job = Run(shipped.folder, ConsoleMonitor(console(stderr=True)), torch.device("cpu"))
    return job, wary(job)


def test_record_and_weights_belong_together(pretrained: Pretrained) -> None:
    shipped = open_shipped(pretrained)
    assert digests(pretrained.folder) == shipped.provenance[DIGESTS]
    reports = read_metrics(pretrained.folder / "metrics.json")
    config = read_config(pretrained.folder / "run.yaml")
    assert {report.validator for report in reports} == {choice.name for choice in config.validators}
    assert config.seed == shipped.provenance["seed"]
    by_itself = [report for report in reports if report.validator != "agreement"]
    verdicts = {metric.verdict for report in by_itself for metric in report.metrics}
    assert "pass" in verdicts
    assert "fail" not in verdicts


def test_they_are_small_and_name_no_machine(pretrained: Pretrained) -> None:
    assert largest_file(pretrained.folder).stat().st_size < MOST_BYTES
    assert named_paths(pretrained.folder) == []
    assert str(Path.home()) not in (pretrained.folder / PROVENANCE).read_text()


def test_those_of_a_preset_are_of_its_problem(pretrained: Pretrained) -> None:
    if pretrained.name in presets():
        shipped = read_config(pretrained.folder / "run.yaml")
        assert shipped.simulator == load_config(pretrained.name).simulator


def test_they_draw_for_data_like_their_training(pretrained: Pretrained) -> None:
    job, sampler = opened(open_shipped(pretrained))
    assert isinstance(sampler, Wary)
    held_out = Simulations(job.simulator, job.config.seed).held_out(0, 1)
    observation = {v.name: held_out[v.name] for v in sampler.spec.observables}
    draws = sampler.sample(observation, 4, seeds=draw_seeds(job.config.seed, "shipped", 0, 1))
    assert all(bool(value.isfinite().all()) for value in draws.values.values())
    assert draws.trust[0].complaints == ()


def test_products_of_lower_precision_change_draws_far_less_than_they_scatter(
    pretrained: Pretrained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By .0015 of a standard deviation from the same noise, where levels are chosen to .005; scalars, whose
    network stays in float32, by rounding.
    """
    monkeypatch.setattr(devices, "_multiplies_in_bfloat16", lambda device: True)
    job, plain = opened(open_shipped(pretrained))
    lower = Run(job.folder, job.monitor, job.device, devices=Devices(precision="auto")).sampler
    held_out = Simulations(job.simulator, job.config.seed).held_out(0, 1)
    observation = {v.name: held_out[v.name] for v in plain.spec.observables}
    seeds = draw_seeds(job.config.seed, "shipped", 0, 1)
    a, b = (sampler.sample(observation, 16, seeds=seeds).values for sampler in (plain, lower))
    for latent in plain.spec.latents:
        moved = (b[latent.name] - a[latent.name]).square().mean((0, 1)).sqrt() / a[latent.name].std(0)[0]
        if isinstance(latent, Field):
            assert 1e-5 < float(moved.median()) < 0.005
        else:
            assert float(moved.max()) < 1e-3


@pytest.mark.slow
def test_parameters_lie_where_the_draws_say(pretrained: Pretrained) -> None:
    """Standard scores of truths: with other weights than the record's these are no standard normals."""
    job, sampler = opened(open_shipped(pretrained))
    held_out = Simulations(job.simulator, job.config.seed).held_out(0, TRUTHS)
    observation = {v.name: held_out[v.name] for v in sampler.spec.observables}
    draws = sampler.sample(observation, 32, seeds=draw_seeds(job.config.seed, "shipped", 0, TRUTHS))
    for vector in sampler.spec.vectors:
        found = draws.values[vector.name].double()
        scores = (held_out[vector.name].double() - found.mean(0)) / found.std(0)
        assert like_standard_normals(scores.numpy())
        for wrong in (scores + 1, 2.5 * scores, 0.4 * scores):
            assert not like_standard_normals(wrong.numpy())
