"""npe's loss by parts of a batch."""

from __future__ import annotations

from typing import Literal

import pytest
import torch

from sbikit import QuietMonitor, Simulations, Workspace
from sbikit.testing import GaussianVector
from sbikit_npe.options import NPEOptions
from sbikit_npe.pairs import Source
from sbikit_npe.training import Likelihood, Loss, Matching
from sbikit_npe.vector_field import VectorField


@pytest.mark.parametrize("method", ["npe", "fmpe", "npse"])
def test_parts_of_a_step_make_up_the_whole(method: Literal["npe", "fmpe", "npse"]) -> None:
    """Of 160 pairs that train the last step of an epoch has 16."""
    options = NPEOptions(simulations=200, batch=48, transforms=1, hidden=8, method=method, field_width=8)
    source = Source(Simulations(GaussianVector(), 0), GaussianVector().spec, options, seed=0)
    sampler, pairs = source.drawn(Workspace(), QuietMonitor())
    loss: Loss = Likelihood(sampler.flow, pairs, torch.device("cpu"))
    if isinstance(sampler.flow, VectorField):
        loss = Matching(sampler.flow, pairs, torch.device("cpu"), seed=3)
        assert loss.validate() == loss.validate()
    assert [loss.rows(step) for step in (0, 2, 3, 4)] == [48, 48, 16, 48]
    for step in (1, 3, 6):
        rows = loss.rows(step)
        parts = [(0, 5), (5, 6), (11, rows - 11)]
        found = sum(
            count / rows * float(loss.of(step, *part).detach()) for part in parts for count in part[1:]
        )
        assert found == pytest.approx(float(loss(step).detach()), rel=1e-5)
        assert loss.of(step, 0, 5).item() != loss.of(step, 5, 5).item()
