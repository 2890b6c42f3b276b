"""Options that would fail after hours, or never end, are refused at once; 1e3 is a whole number."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sbikit.plugins.registry import load
from sbikit.problem.errors import OptionError
from sbikit.problem.memory import check_memory, memory_bytes
from sbikit.roles.monitor import QuietMonitor
from sbikit.runs.config import load_config
from sbikit.runs.draft import Overrides
from sbikit.runs.schema import schema
from sbikit.testing import GaussianField, GaussianFieldOptions


@pytest.mark.parametrize(
    "assignments",
    [
        ("estimator.heads=3",),
        ("estimator.heads=5", "estimator.width=24"),
        ("estimator.heads=32",),
        ("estimator.heads=1e9",),
        ("estimator.width=8000", "estimator.depth=100"),
        ("estimator.guide_nodes=100",),
        ("estimator.patch=1e21",),
        ("estimator.steps=1e21",),
        ("estimator.batch=1e12",),
        ("estimator.evaluations=1e12",),
        ("estimator.guide_simulations=1e12",),
        ("sampling.draws=1e21",),
        ("sampling.observations=1e21",),
        ("sampling.shown_draws=1e21",),
        ("sampling.reference_draws=1e21",),
        ("sampling.draws=1.5",),
        ("simulator.size=32.5",),
        ("simulator.size=1e21",),
        ("seed=1e300",),
    ],
)
def test_what_cannot_work_is_refused(assignments: tuple[str, ...]) -> None:
    with pytest.raises(OptionError):
        load_config(overrides=Overrides(assignments=assignments))


def test_three_heads_of_eight_numbers_work() -> None:
    load_config(overrides=Overrides(assignments=("estimator.width=24", "estimator.heads=3")))


def test_a_whole_number_may_be_written_as_any_number() -> None:
    found = load_config(
        overrides=Overrides(assignments=("sampling.draws=1e3", "estimator.steps=2000.0", "seed=1e6"))
    )
    assert (found.sampling.draws, found.estimator.options.model_dump()["steps"], found.seed) == (
        1000,
        2000,
        10**6,
    )
    assert isinstance(found.sampling.draws, int)
    assert load("estimator", "diffusion-transformer", steps=1e3).options.model_dump()["steps"] == 1000
    assert load("simulator", "lognormal", extent=5.0).options.model_dump()["extent"] == 5.0


def test_every_whole_number_of_every_shipped_plugin_has_an_upper_bound() -> None:
    """A number without end is one that somebody waits for."""
    unbounded = []
    for name, section in schema()["$defs"].items():
        for key, one in section.get("properties", {}).items():
            for branch in (one, *one.get("anyOf", ())):
                bounded = {"maximum", "exclusiveMaximum", "enum", "const"} & set(branch)
                if branch.get("type") == "integer" and not bounded and "seed" not in key:
                    unbounded.append(f"{name}.{key}")
    assert not unbounded


def test_chains_beyond_memory_are_refused_before_any_work() -> None:
    field = GaussianField(GaussianFieldOptions(size=256))
    hmc = load("sampler", "hmc", chains=256, draws=1_000_000, max_draws=1_000_000)
    with pytest.raises(OptionError, match="no memory for 256 chains"):
        hmc.posterior(field, monitor=QuietMonitor(), device=torch.device("cpu"))


def test_the_limit_is_this_machines_memory() -> None:
    pages = Path("/proc/meminfo")
    if pages.exists():
        kilobytes = int(pages.read_text().split()[1])
        assert memory_bytes() == pytest.approx(1024 * kilobytes, rel=0.1)
    check_memory(memory_bytes() / 4, "things", where="here", fix="")
    with pytest.raises(OptionError, match="no memory for things"):
        check_memory(memory_bytes() / 4 + 1, "things", where="here", fix="")
