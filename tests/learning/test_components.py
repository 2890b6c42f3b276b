"""Principal components against numpy's singular value decomposition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sbikit.learning import PrincipalComponents, leading


@pytest.mark.parametrize(("rows", "columns"), [(200, 12), (30, 80)])
def test_variances_and_directions_are_those_of_a_singular_value_decomposition(
    rows: int, columns: int
) -> None:
    source = torch.Generator().manual_seed(1)
    x = torch.randn(rows, columns, generator=source, dtype=torch.float64) * torch.arange(1.0, columns + 1)
    x = x - x.mean(0)
    variance, directions = leading(x, 5)
    _, singular, right = np.linalg.svd(x.numpy(), full_matrices=False)
    np.testing.assert_allclose(variance.numpy(), singular[:5] ** 2 / (rows - 1))
    np.testing.assert_allclose(np.abs(np.sum(directions.numpy() * right[:5].T, 0)), 1.0, atol=1e-8)


def test_components_have_unit_variance_and_what_never_varies_has_none() -> None:
    base = torch.randn(500, 3, generator=torch.Generator().manual_seed(2))
    rows = torch.cat([base, base.sum(1, keepdim=True), torch.ones(500, 2)], 1)
    components = PrincipalComponents(6, 64)
    components.fit(rows)
    found = components(rows)
    assert found.shape == (500, 6)
    torch.testing.assert_close(torch.cov(found.T)[:3, :3], torch.eye(3), rtol=0, atol=2**-7)  # of bfloat16
    assert float(found[:, 3:].abs().max()) == 0.0


def test_rounded_directions_move_components_by_thousandths_of_their_deviation() -> None:
    source = torch.Generator().manual_seed(3)
    base = torch.randn(400, 20, generator=source)
    rows = base @ torch.randn(20, 3000, generator=source) + torch.randn(400, 3000, generator=source)
    components = PrincipalComponents(3000, 8)
    components.fit(rows)
    centred = rows.double() - rows.double().mean(0)
    left, _, right = np.linalg.svd(centred.numpy(), full_matrices=False)
    exact = left[:, :8] * len(rows) ** 0.5 * np.sign(right[:8, :][range(8), np.abs(right[:8]).argmax(1)])
    np.testing.assert_allclose(components(rows).numpy(), exact, rtol=0, atol=0.01)
