"""`benchmarks/mask.py` on a small patch, against brute force."""

from __future__ import annotations

import mask
import pytest
import torch
from torch import Tensor

from sbikit_lognormal.options import LogNormalOptions
from sbikit_lognormal.simulator import LogNormal

SIZE = 12


def patch(edge: float) -> LogNormal:
    options = LogNormalOptions.model_validate(
        {"size": SIZE, "extent": 2.0, "prior": "s8", "wiener": True, "mask": {"edge": edge} if edge else None}
    )
    return LogNormal(options)


def exact(power: Tensor, seen: Tensor) -> Tensor:
    """The covariance of the shear, mode by mode: of directions (k_x^2 - k_y^2, 2 k_x k_y) / k^2."""
    k = torch.fft.fftfreq(SIZE, dtype=torch.float64)
    square = (k[:, None] ** 2 + k**2).clamp_min(1e-30)
    first, second = (k**2 - k[:, None] ** 2) / square, 2 * k[:, None] * k / square
    at = seen.nonzero()
    apart = (at[:, None] - at[None]) % SIZE
    parts = [
        torch.fft.ifft2(power * a * b).real[apart[..., 0], apart[..., 1]]
        for a, b in ((first, first), (first, second), (second, second))
    ]
    return torch.cat([torch.cat([parts[0], parts[1]], 1), torch.cat([parts[1], parts[2]], 1)])


@pytest.mark.parametrize("edge", [0.0, 10.0])
def test_covariance_of_shear_is_the_sum_over_modes(edge: float) -> None:
    simulator = patch(edge)
    for each in [mask.derivatives(simulator)[0], *mask.derivatives(simulator)[1]]:
        each[SIZE // 2], each[:, SIZE // 2] = (
            0.0,
            0.0,
        )  # Nyquist, where the two components are no longer apart
        expected = exact(each, simulator.survey.mask)
        found = mask.covariance(each, simulator.survey.mask)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9 * float(expected.abs().max()))


def test_without_a_mask_bands_of_single_lengths_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Power of modes that are as long as each other is all that a Gaussian field has."""
    simulator = patch(0.0)
    k = 2 * torch.pi * torch.fft.fftfreq(SIZE, dtype=torch.float64)
    length = ((k[:, None] ** 2 + k**2).sqrt() * 1e6).round() / 1e6
    monkeypatch.setattr(
        mask, "logarithmic_edges", lambda *_: [*(length.unique()[1:] - 2e-6).tolist(), float("inf")]
    )
    spread = float(mask.noise(simulator)[0])
    power = 20 * spread * torch.exp(-length)
    slopes = [power, power * length]
    for each in (power, *slopes):
        each[0, 0] = each[SIZE // 2] = each[:, SIZE // 2] = (
            0.0  # the mean and Nyquist, which shear does not have
        )
    noisy = power + spread
    whole = torch.stack([torch.stack([0.5 * (a * b / noisy**2).sum() for b in slopes]) for a in slopes])
    found = mask.of_bands(simulator, mask.maps_of_each_number(simulator)["kappa_ks"], power, slopes)
    torch.testing.assert_close(found, whole, rtol=1e-5, atol=0)


def test_with_one_the_wiener_map_loses_less() -> None:
    simulator = patch(10.0)
    power, slopes = mask.derivatives(simulator)
    maps = mask.maps_of_each_number(simulator)
    kept = {name: torch.logdet(mask.of_bands(simulator, each, power, slopes)) for name, each in maps.items()}
    assert kept["kappa_wiener"] > kept["kappa_ks"] + 0.1
