"""Shapes of a field in which all pixels move together, against numpy's polynomials and sums by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.polynomial.hermite_e import hermeval
from scipy import stats
from small_transformer import small_transformer

from sbikit import generator
from sbikit_transformer.shapes import COUNT, ShapesOf


def bands(w: np.ndarray) -> list[np.ndarray]:
    """A field in three equal parts of log |k| from the lowest mode to Nyquist, corners in the last."""
    k = np.sqrt(sum(f**2 for f in np.meshgrid(*(np.fft.fftfreq(n) for n in w.shape), indexing="ij")))
    lowest = k[k > 0].min()
    edges = lowest * (0.5 / lowest) ** (np.arange(3) / 3) - 1e-7
    band = (k[..., None] >= edges).sum(-1)  # 0 is the mean
    return [np.fft.ifftn(np.where(band == i, np.fft.fftn(w), 0.0)).real for i in (1, 2, 3)]


@pytest.mark.parametrize("grid", [(40,), (8, 6), (3, 4, 5)])
def test_shapes_are_bands_and_hermite_polynomials_of_the_field(grid: tuple[int, ...]) -> None:
    field = torch.randn(3, 2, *grid, generator=generator(1)).exp()
    found = ShapesOf(grid)(field, torch.full((3, 2), 0.1), field, torch.ones(3))
    for b, c in np.ndindex(3, 2):
        w = field[b, c].double().numpy()
        x = (w - w.mean()) / w.std()
        shapes = [np.ones_like(w), *bands(w), *(hermeval(x, [0.0] * m + [1.0]) for m in (2, 3))]
        assert len(shapes) == COUNT
        for one, phi in zip(found.phi[b, c].numpy(), shapes, strict=True):
            norm = np.sqrt((phi**2).sum())
            np.testing.assert_allclose(one, phi / norm if norm > 1e-9 else 0.0, rtol=1e-3, atol=1e-5)
        expected = [math.log(w.var()), stats.skew(w.ravel()), w.mean()]
        np.testing.assert_allclose(found.moments[b, c::2].numpy(), expected, rtol=1e-3, atol=1e-4)
    assert not found.innovations.any()


def test_innovations_are_standard_normal_where_the_guide_is_right() -> None:
    """x = y + sigma e, y ~ N(0, 1): W = x / (1 + sigma^2), whose error has the variance W sigma^2 / x."""
    source, sigma = generator(2), 0.7
    noisy = torch.randn(4000, 1, 16, generator=source) * math.sqrt(1 + sigma**2)
    gain = 1 / (1 + sigma**2)
    error = torch.full((4000, 1), math.sqrt(gain) * sigma)
    # Directions are those of another field, as of data: along W itself the innovation is not normal.
    other = torch.randn(4000, 1, 16, generator=source)
    phi = ShapesOf((16,))(other, error, noisy, torch.full((4000,), sigma)).phi
    unexpected = ShapesOf((16,))(noisy * gain, error, noisy, torch.full((4000,), sigma))
    left = (noisy - gain * noisy) / math.sqrt(sigma**2 - gain * sigma**2)
    along = (phi * left[:, :, None]).sum(-1)
    torch.testing.assert_close(along.std(0), torch.ones(1, COUNT), rtol=0.05, atol=0)
    own = (unexpected.phi * left[:, :, None]).sum(-1).clamp(-6, 6)
    torch.testing.assert_close(unexpected.innovations, own, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("grid", [(5, 5), (1,), (2, 1), (1, 1, 3)])
def test_a_flat_field_has_finite_shapes(grid: tuple[int, ...]) -> None:
    flat = torch.full((2, 1, *grid), 3.0)
    found = ShapesOf(grid)(flat, torch.zeros(2, 1), flat, torch.ones(2))
    assert all(bool(part.isfinite().all()) for part in (found.phi, found.innovations, found.moments))


def test_what_a_field_lacks_is_no_direction() -> None:
    """Rounding errors of one that has long waves alone are not made a direction of unit norm."""
    places = torch.arange(16) / 16.0
    wave = torch.cos(2.0 * math.pi * places)[:, None] + torch.sin(2.0 * math.pi * (places + 0.1))
    found = ShapesOf((16, 16))(wave[None, None], torch.full((1, 1), 0.1), wave[None, None], torch.ones(1))
    norms = found.phi[0, 0].flatten(1).norm(dim=1)
    torch.testing.assert_close(norms, torch.tensor([1.0, 1.0, 0.0, 0.0, 1.0, 1.0]), rtol=1e-4, atol=1e-5)


def test_shapes_enter_by_a_number_and_by_slopes_of_every_innovation() -> None:
    made = small_transformer((8,), channels_out=2)
    made.reset(generator(3))
    source = generator(4)
    sizes = ((5, 3, 8), (5, 2, 3), (5, 2, COUNT, 8), (5, 2 * COUNT + 2), (5, 6), (5,))
    field, scalars, phi, innovations, summary, level = (torch.randn(s, generator=source) for s in sizes)
    numbers = torch.randn(2, COUNT, 1 + 2 * COUNT + 2, generator=source)
    with torch.no_grad():
        made.out_shapes.bias.copy_(numbers.flatten())
        found = made.of_field(field, scalars, (phi, innovations), summary, level)
    expected = torch.zeros(5, 2, 8)
    for b, c, m in np.ndindex(5, 2, COUNT):
        along = numbers[c, m, 0] + numbers[c, m, 1:] @ innovations[b]
        expected[b, c] += along * phi[b, c, m]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
