"""The guide's normal law of several fields and their data, against brute force with the whole covariance."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from sbikit import generator
from sbikit.fields import Rings
from sbikit.learning import Parts
from sbikit_transformer.guide import Guide
from sbikit_transformer.linear_model import (
    _applied_by_mode,
    _applied_by_ring,
    applied,
    cross_power,
    fit_model,
)
from sbikit_transformer.polynomials import Quadratic

RINGS = Rings.shells((8, 8))
WHITE = Quadratic(torch.zeros(1, dtype=torch.bool))
SIZE = 4  # two fields and their data


def covariances(u: Tensor) -> Tensor:
    """Of z in every ring, (M, rings, 4, 4): correlated power that goes with u, noise that does not."""
    source = torch.Generator().manual_seed(0)
    root = torch.randn(len(RINGS), 2, 2, generator=source) + torch.eye(2)
    field = (0.3 * u).exp()[:, :1, None, None] * (root @ root.mT) / (1.0 + RINGS.k[:, None, None])
    slope = torch.tensor([[1.0, 0.0], [0.4, 2.0]])
    noise = torch.tensor([[0.5, 0.1], [0.1, 0.8]])
    data = slope @ field @ slope.T + noise
    return torch.cat([torch.cat([field, field @ slope.T], -1), torch.cat([slope @ field, data], -1)], -2)


def drawn(u: Tensor, seed: int) -> Tensor:
    """Fields and data with these covariances, (M, 4, 8, 8)."""
    white = torch.randn(len(u), SIZE, 8, 8, generator=torch.Generator().manual_seed(seed))
    root = torch.linalg.cholesky(covariances(u))[:, RINGS.index]
    modes = (root.to(torch.complex64) @ RINGS.transform(white).mT[..., None])[..., 0]
    return RINGS.inverse(modes.mT)


def fitted(mixed: Tensor) -> Guide:
    """To 20,000 simulations, of whose data `mixed` are seen, (2, 2)."""
    u = torch.randn(20_000, 1, generator=torch.Generator().manual_seed(1))
    z = drawn(u, 2)
    found = Guide(WHITE, 2, (8, 8), nodes=16)
    data = torch.einsum("ij,bjxy->bixy", mixed, z[:, 2:])
    modes = {"u": u, "y": RINGS.transform(z[:, :2]), "d": RINGS.transform(data)}
    log_variance, slope = fit_model(Parts.held(modes), RINGS, WHITE)
    found.log_variance.copy_(log_variance)
    found.slope.copy_(slope)
    return found


@pytest.fixture(scope="module")
def guide() -> Guide:
    """Of the data as they are."""
    return fitted(torch.eye(2))


@pytest.mark.parametrize("sigma", [0.1, 1.0, 20.0])
def test_the_field_is_what_the_whole_covariance_tells(guide: Guide, sigma: float) -> None:
    """E[y | y + sigma e, d] and its rms error, by conditioning in every mode with the true covariance."""
    u = torch.tensor([[-1.0], [0.0], [1.5]])
    z, noise = drawn(u, 3), torch.randn(3, 2, 8, 8, generator=torch.Generator().manual_seed(4))
    noisy = z[:, :2] + sigma * noise
    data = guide.told(z[:, 2:])
    guess = guide(noisy, u, data, u, torch.full((3,), sigma))
    truth = covariances(u).double().numpy()
    seen = truth.copy()
    seen[..., :2, :2] += sigma**2 * np.eye(2)
    gain = np.linalg.solve(seen, truth[..., :, :2]).swapaxes(-1, -2)  # seen is symmetric
    modes = torch.cat([RINGS.transform(noisy), data], 1).numpy()
    mean = np.einsum("bmij,bjm->bim", gain[:, RINGS.index.numpy()], modes)
    expected = RINGS.inverse(torch.from_numpy(mean)).float()
    left = truth[..., :2, :2] - gain @ truth[..., :, :2]
    count = RINGS.count.numpy()
    error = np.sqrt(np.einsum("brii,r->bi", left, count) / count.sum())
    np.testing.assert_allclose(guess.error.numpy(), error, rtol=0.02)
    off = (guess.field - expected).square().mean((2, 3)).sqrt()
    assert float((off / guess.error).max()) < 0.05


def test_the_law_of_the_field_is_what_the_whole_covariance_tells(guide: Guide) -> None:
    """N(W, V) of y given d, by conditioning in every mode with the true covariance."""
    u = torch.tensor([[-1.0], [0.0], [1.5]])
    z = drawn(u, 5)
    data = guide.told(z[:, 2:])
    law = guide.expected(u, data, u)
    truth = covariances(u).double().numpy()
    gain = np.linalg.solve(truth[..., 2:, 2:], truth[..., 2:, :2]).swapaxes(-1, -2)
    mean = np.einsum("bmij,bjm->bim", gain[:, RINGS.index.numpy()], data.numpy())
    left = truth[..., :2, :2] - gain @ truth[..., 2:, :2]
    off = (law.mean - RINGS.inverse(torch.from_numpy(mean)).float()).square().mean((2, 3)).sqrt()
    assert float(off.max()) < 0.02
    # The covariance of what unit vectors of a mode and a channel become, W + v e.
    of_mode = np.zeros((3, len(RINGS.index), 2, 2))
    for channel in range(2):
        unit = torch.zeros(3, 2, len(RINGS.index), dtype=torch.complex64)
        unit[:, channel] = 1.0
        along = law.apart(RINGS.inverse(unit))
        back = RINGS.transform(law.together(law.sd.square() * along))
        of_mode[..., channel] = back.real.mT.numpy()
    # Of rings of one mode 20,000 simulations tell it to 2 % at these u.
    np.testing.assert_allclose(of_mode, left[:, RINGS.index.numpy()], rtol=0.06, atol=0.005)
    noise = torch.randn(3, 2, 8, 8, generator=torch.Generator().manual_seed(6))
    torch.testing.assert_close(law.together(law.apart(noise)), noise, rtol=1e-4, atol=1e-5)


def test_nearly_equal_data_fields_tell_what_they_tell_apart(guide: Guide) -> None:
    """As Wiener maps of several bins are: the second field is the first but for .003 of another."""
    mixed = torch.tensor([[1.0, 0.0], [1.0, 0.003]])
    u = torch.tensor([[-1.0], [0.0], [1.5]])
    z, sigma = drawn(u, 3), torch.full((3,), 20.0)
    noisy = z[:, :2] + 20.0 * torch.randn(3, 2, 8, 8, generator=torch.Generator().manual_seed(4))
    seen = torch.einsum("ij,bjxy->bixy", mixed, z[:, 2:])
    near = fitted(mixed)
    found = near(noisy, u, near.told(seen), u, sigma)
    apart = guide(noisy, u, guide.told(z[:, 2:]), u, sigma)
    torch.testing.assert_close(found.field, apart.field, atol=2e-3, rtol=0.0)
    torch.testing.assert_close(found.error, apart.error, atol=0.0, rtol=1e-3)


def test_the_likelihood_is_that_of_scipy(guide: Guide) -> None:
    """Of the data alone, mode by mode, up to a constant: differences between parameters."""
    u = torch.tensor([[-2.0], [0.0], [2.0]])
    data = guide.told(drawn(u[1:2], 5)[:, 2:])
    power = cross_power(data, RINGS)
    found = guide._model(u).log_likelihood(power, RINGS.count)
    truth = covariances(u)[..., 2:, 2:].double().numpy()
    modes = RINGS.transform(torch.eye(64).view(64, 8, 8)).mT  # what each pixel has of each mode
    pixels = RINGS.inverse(data)[0].double().numpy().reshape(-1)
    expected = []
    for law in truth:
        each = law[RINGS.index.numpy()]
        weight = RINGS.weight.numpy()
        whole = np.einsum("ma,m,mij,mb->iajb", np.conj(modes.numpy()), weight, each, modes.numpy()).real
        expected.append(stats.multivariate_normal(cov=whole.reshape(128, 128)).logpdf(pixels))
    change = np.array(expected) - expected[1]
    assert (found - found[1]).numpy() == pytest.approx(change, abs=0.3)
    assert np.abs(change[[0, 2]]).min() > 1.0


def test_one_field_has_the_closed_form() -> None:
    """d = b y + n: what scalars alone can tell, and no matrix."""
    guide = Guide(WHITE, 1, (8, 8), nodes=16)
    guide.log_variance[0, 0], guide.log_variance[1, 0], guide.slope[0, 0] = 0.7, -0.4, 1.5
    p, n, b, sigma = np.exp(0.7), np.exp(-0.4), 1.5, 0.8
    x, d = torch.randn(2, 1, 1, 8, 8, generator=torch.Generator().manual_seed(6))
    guess = guide(x, torch.zeros(1, 1), guide.told(d), torch.zeros(1, 1), torch.tensor([sigma]))
    variance = 1.0 / (1.0 / p + b**2 / n + 1.0 / sigma**2)
    torch.testing.assert_close(guess.field, variance * (b * d / n + x / sigma**2))
    assert float(guess.error) == pytest.approx(variance**0.5, rel=1e-6)


@pytest.mark.parametrize("bounded", [True, False])
def test_the_power_of_a_bounded_parameter_is_smooth_up_to_its_bounds(bounded: bool) -> None:
    """y ~ N(0, s^4), s uniform between .6 and 1: ln v = 4 ln s, of which its white coordinate knows no
    quadratic.
    """
    source = torch.Generator().manual_seed(7)
    u = torch.randn(20_000, 1, generator=source)
    s = 0.6 + 0.4 * stats.norm.cdf(u.numpy())
    y = torch.from_numpy(s[..., None, None] ** 2).float() * torch.randn(20_000, 1, 8, 8, generator=source)
    modes = RINGS.transform(y)
    quadratic = Quadratic(torch.tensor([bounded]))
    parts = Parts.held({"u": u, "y": modes, "d": modes})
    log_variance, _ = fit_model(parts, RINGS, quadratic)
    at = torch.tensor([[-2.5], [-1.4], [0.0], [1.4], [2.5]], dtype=torch.float64)
    found = quadratic(at) @ log_variance[0]
    expected = 4.0 * np.log(0.6 + 0.4 * stats.norm.cdf(at.numpy()))
    many = RINGS.count >= 4.0
    worst = float((found - torch.from_numpy(expected))[:, many].abs().max())
    assert worst < 0.06 if bounded else worst > 0.2


def test_natural_coordinates_are_ranks_of_variance_one() -> None:
    u = torch.linspace(-3.0, 3.0, 13, dtype=torch.float64)[:, None].expand(-1, 2)
    found = Quadratic(torch.tensor([True, False])).natural(u)
    np.testing.assert_allclose(found[:, 0], stats.uniform(-(3**0.5), 12**0.5).ppf(stats.norm.cdf(u[:, 0])))
    assert torch.equal(found[:, 1], u[:, 1])


# --- products a ring ------------------------------------------------------------------------


@pytest.mark.parametrize("way", [applied, _applied_by_ring, _applied_by_mode])
@pytest.mark.parametrize("grid", [(7,), (8, 5), (4, 3, 6)])
@pytest.mark.parametrize(("to", "of"), [(1, 1), (1, 2), (3, 5)])
def test_gains_of_rings_multiply_their_modes(
    way: Callable[..., Tensor], grid: tuple[int, ...], to: int, of: int
) -> None:
    rings, source = Rings.shells(grid), generator(9)
    gain = torch.randn(2, len(rings), to, of, generator=source, dtype=torch.float64)
    modes = torch.randn(2, of, len(rings.index), generator=source, dtype=torch.complex64)
    exact = np.einsum("bmcd,bdm->bcm", gain.numpy()[:, rings.index.numpy()], modes.numpy())
    found = way(gain.float(), modes, rings)
    assert found.dtype == modes.dtype
    assert np.abs(found.numpy() - exact).max() < 1e-5
