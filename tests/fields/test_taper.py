"""The taper of grids that do not close, against scipy's window and a field of known spectrum."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal.windows import hann as of_scipy

from sbikit.fields import Rings, hann, tapered


@pytest.mark.parametrize("n", [3, 8, 33])
def test_it_is_a_hann_window_at_pixel_centres(n: int) -> None:
    fine = of_scipy(2 * n + 1)[1::2]
    found = hann((n,)).numpy()
    np.testing.assert_allclose(found, fine / np.sqrt((fine**2).mean()), atol=1e-12)
    plane = hann((n, 5)).numpy()
    np.testing.assert_allclose(plane, np.outer(found, hann((5,)).numpy()), atol=1e-12)
    assert hann((2, 1)).tolist() == [[1.0], [1.0]]


def test_white_noise_keeps_its_power_and_a_jump_at_the_edge_makes_none() -> None:
    rings = Rings.linear((64,), (64.0,), 8)

    def power(x: torch.Tensor) -> torch.Tensor:
        modes = rings.transform(x)
        return rings.power(modes, modes) / rings.count

    noise = torch.randn(4000, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(
        power(tapered(noise, 1)).mean(0)[1:], torch.ones(7).double(), rtol=0, atol=0.03
    )
    trend = torch.linspace(-1.0, 1.0, 64, dtype=torch.float64)
    assert float(power(tapered(trend, 1))[-1]) < 1e-4 * float(power(trend)[-1])
