"""The transformer's loss by parts of a batch: the noise of the whole, and only the part's simulations."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from kept_draws import KeptDraws

from sbikit import JointDraws, QuietMonitor, Simulations, Workspace
from sbikit.testing import GaussianField, GaussianFieldOptions, GaussianVector
from sbikit_transformer.estimator import DiffusionTransformer
from sbikit_transformer.loss import Copies, DenoisingLoss, Endless
from sbikit_transformer.options import TransformerOptions
from sbikit_transformer.training import fixed_set

SMALL = TransformerOptions(steps=2, batch=5, width=16, depth=1, heads=2, guide_simulations=64, sigma_min=0.05)


def fitted(draws: JointDraws, copies: int) -> tuple[DenoisingLoss, list[tuple[int, int]]]:
    """The loss of a denoiser of these draws, and where it writes down what it draws."""
    sampler = DiffusionTransformer(SMALL).fit(draws, seed=3, workspace=Workspace(), monitor=QuietMonitor())
    asked: list[tuple[int, int]] = []
    read = draws.training

    def training(first: int, count: int) -> dict[str, torch.Tensor]:
        asked.append((first, count))
        return dict(read(first, count))

    draws.training = training  # type: ignore[method-assign]
    kept = fixed_set(draws, SMALL, 0, QuietMonitor())
    source = Endless(draws, first=64, batch=SMALL.batch) if kept is None else kept
    loss = DenoisingLoss(sampler.denoiser, source, copies=Copies(copies), seed=1, device=torch.device("cpu"))
    return loss, asked


@pytest.mark.parametrize("copies", [1, 3])
@pytest.mark.parametrize("kind", ["vector", "field", "kept"])
def test_parts_of_a_step_make_up_the_whole(kind: str, copies: int) -> None:
    simulator = GaussianField(GaussianFieldOptions(size=4)) if kind == "field" else GaussianVector()
    draws: JointDraws = KeptDraws(simulator, 33) if kind == "kept" else Simulations(simulator, 0)
    loss, asked = fitted(draws, copies)
    for step in (0, 3, 5):
        rows = loss.rows(step)
        assert rows == 5 if kind != "kept" else rows in (2, 5)
        whole = loss(step)
        for ends in ([0, 2, rows], [0, 1, 2, rows]):
            asked.clear()
            parts = [(first, last - first) for first, last in pairwise(ends) if last > first]
            found = sum(count / rows * loss.of(step, first, count) for first, count in parts)
            torch.testing.assert_close(found, whole, rtol=1e-5, atol=1e-6)
            if kind != "kept":
                assert asked == [(64 + 5 * step + first, count) for first, count in parts]
        assert torch.equal(loss(step), whole)
        assert not torch.equal(loss.of(step, 0, 1), loss.of(step, 1, 1))


def test_lower_precision_is_the_networks_alone() -> None:
    """In bfloat16 its products differ by some 0.4 %; those of the law do not."""
    loss, _ = fitted(Simulations(GaussianVector(), 0), 8)
    denoiser = loss._denoiser
    exact = float(loss(0).detach())
    seen: list[torch.dtype] = []
    last = denoiser.network.scalars.out_scalar
    assert last is not None
    last.register_forward_hook(lambda *told: seen.append(told[-1].dtype))
    laws: list[torch.dtype] = []
    denoiser.posterior.register_forward_hook(lambda *told: laws.append(told[-1].mean.dtype))
    denoiser.precision = torch.bfloat16
    lower = loss(0)
    assert (lower.dtype, laws) == (torch.float32, [torch.float32])
    assert seen == [torch.bfloat16]
    assert 0.0 < abs(float(lower.detach()) - exact) < 0.05 * exact
    denoiser.precision = torch.float32
    assert float(loss(0).detach()) == exact
