"""Jobs of a real Slurm, which the test starts: the same draws to the bit, though a job is cancelled."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import slurm_here
import torch
from duties import until

from sbikit import QuietMonitor
from sbikit.simulations import attempt, simulate_all, simulating
from sbikit.testing import GaussianVector
from sbikit.workers import open_pool, read_place

pytestmark = [
    pytest.mark.skipif(find_spec("dask_jobqueue") is None, reason="dask-jobqueue is not installed"),
    pytest.mark.skipif(bool(slurm_here.missing()), reason=f"Slurm: {slurm_here.missing()}"),
]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    with slurm_here.slurm() as found:
        for name, value in found.items():
            monkeypatch.setenv(name, value)
        yield found


def test_jobs_of_slurm_make_the_same_draws_though_one_is_cancelled(
    environment: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_text(f"jobs: 2\nmemory: 1GB\ntime: '00:10:00'\nlogs: {tmp_path / 'logs'}\n")
    simulator = GaussianVector()
    with open_pool(read_place(cluster=f"slurm:{file}"), simulating(simulator), QuietMonitor()) as pool:
        until(lambda: len(slurm_here.jobs(environment)) == 2)
        coming = simulate_all(simulator, 0, "training", [(i, 5) for i in range(0, 300, 5)], pool)
        found = [next(coming)]
        first = slurm_here.jobs(environment)
        slurm_here.cancel(environment, first[0])
        until(lambda: first[0] not in slurm_here.jobs(environment))
        found += coming
        until(lambda: len(slurm_here.jobs(environment)) == 2)  # another has taken its place
        assert first[0] not in slurm_here.jobs(environment)
    until(lambda: not slurm_here.jobs(environment))
    assert sorted(one.first for one in found) == list(range(0, 300, 5))
    for one in found:
        expected = attempt(simulator, 0, "training", one.first, 5)
        assert torch.equal(one.outputs["x"], expected.outputs["x"])
        assert torch.equal(one.parameters["theta"], expected.parameters["theta"])
    assert os.listdir(tmp_path / "logs")
