"""Muon against torch's own, and against what it is meant to do."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sbikit import generator
from sbikit.learning import Muon
from sbikit.learning.muon import orthogonalised

SHAPES = ((192, 64), (64, 64), (64, 168), (64, 64), (192, 64), (1, 8))


def trained(make: type[torch.optim.Optimizer], **words: object) -> list[Tensor]:
    """Matrices after five steps of random gradients, one of them without."""
    source = generator(0)
    matrices = [nn.Parameter(0.1 * torch.randn(shape, generator=source)) for shape in (*SHAPES, (4, 4))]
    optimiser = make(matrices, lr=0.02, **words)  # type: ignore[call-arg]
    for _ in range(5):
        for matrix in matrices[:-1]:
            matrix.grad = torch.randn(matrix.shape, generator=source)
        optimiser.step()
    return [matrix.detach() for matrix in matrices]


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_in_bfloat16_it_is_torchs_to_the_bit(decay: float) -> None:
    expected = trained(torch.optim.Muon, weight_decay=decay)
    for found, wanted in zip(trained(Muon, dtype=torch.bfloat16, decay=decay), expected, strict=True):
        assert torch.equal(found, wanted)


def test_on_a_processor_it_is_torchs_but_for_the_rounding_of_bfloat16() -> None:
    """Which keeps 8 bits: each of five updates of size 0.02 is off by about 2^-8 of its largest entries."""
    start = trained(torch.optim.Muon, weight_decay=0.0)
    for found, wanted, shape in zip(trained(Muon), start, (*SHAPES, (4, 4)), strict=True):
        torch.testing.assert_close(
            found, wanted, rtol=0, atol=5 * 0.02 * max(1, shape[0] / shape[1]) ** 0.5 / 64
        )
    assert not torch.equal(trained(Muon)[0], start[0])


@pytest.mark.parametrize("shape", [(3, 32, 16), (2, 16, 48)])
def test_singular_values_come_near_one_and_vectors_stay(shape: tuple[int, int, int]) -> None:
    matrices = torch.randn(shape, generator=generator(1), dtype=torch.float64)
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    inner = left.mT @ orthogonalised(matrices) @ right.mT
    values = inner.diagonal(dim1=1, dim2=2)
    assert float(values.min()) > 0.6
    assert float(values.max()) < 1.3
    torch.testing.assert_close(inner, torch.diag_embed(values), rtol=0, atol=1e-12)


def test_a_matrix_without_gradient_stays() -> None:
    assert torch.equal(trained(Muon)[-1], trained(torch.optim.Muon, weight_decay=0.0)[-1])
    zero = torch.zeros(1, 4, 4)
    assert torch.equal(orthogonalised(zero), zero)
