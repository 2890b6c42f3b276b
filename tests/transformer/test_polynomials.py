"""Regressions of the guide against scipy's maximum of the same likelihood."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import minimize

from sbikit_transformer.polynomials import fit_gamma, quadratic


def test_a_gamma_regression_of_single_squared_amplitudes_is_the_most_likely() -> None:
    """One of forty of them is five times its mean and more."""
    source = torch.Generator().manual_seed(0)
    features = quadratic(torch.randn(4_000, 1, generator=source)).double()
    mean = (features @ torch.tensor([[0.3], [0.5], [-0.1]]).double()).exp()
    target = mean * torch.randn(4_000, 1, generator=source).double().square()
    f, t = features.numpy(), target.numpy()[:, 0]

    def unlikely(b: np.ndarray) -> float:
        linear = f @ b
        return float((linear + t * np.exp(-linear)).mean())

    right = minimize(unlikely, np.zeros(3), method="BFGS", options={"gtol": 1e-10}).x
    np.testing.assert_allclose(fit_gamma(features, target)[:, 0].numpy(), right, atol=1e-4)
