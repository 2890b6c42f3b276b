"""What the guide lacks where data are missing, against the exact posterior of a Gaussian field by numpy."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from sbikit import QuietMonitor
from sbikit.fields import Rings
from sbikit.learning import Parts
from sbikit_transformer.data_posterior import LinearLaw
from sbikit_transformer.grids import Grids
from sbikit_transformer.guide import Guide
from sbikit_transformer.guided_flow import follow
from sbikit_transformer.missing import Missing, missing
from sbikit_transformer.polynomials import Quadratic

GRID = (12, 12)
PIXELS = 144
RINGS = Rings.shells(GRID)
WHITE = Quadratic(torch.zeros(1, dtype=torch.bool))
NOISE = 0.5  # variance of a pixel of each field's data
MANY = 8_192


def unseen() -> Tensor:
    """An edge of two pixels on two sides, and one pixel within."""
    share = torch.zeros(GRID)
    share[:2], share[:, -2:], share[6, 5] = 1.0, 1.0, 1.0
    return share


@dataclass(frozen=True)
class Exact:
    """Two fields that go together, seen with white noise where they are: pixels of both in a row."""

    prior: np.ndarray
    precision: np.ndarray

    @property
    def left(self) -> np.ndarray:
        """Covariance of the fields given data."""
        return np.linalg.inv(self.precision)

    def wiener(self, data: np.ndarray) -> np.ndarray:
        """Mean of the fields given data (M, 288)."""
        return data @ self.left / NOISE

    def given_noisy(
        self, wiener: np.ndarray, noisy: np.ndarray, sigma: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """The same given noisy fields, too, and variances."""
        both = np.linalg.inv(self.precision + np.eye(2 * PIXELS) / sigma**2)
        return (wiener @ self.precision + noisy / sigma**2) @ both, both.diagonal()


@cache
def exact(*, of_mean: bool = True) -> Exact:
    """With data that tell of the fields' means, or, as shear, do not."""
    radius = RINGS.k[RINGS.index]
    power = (1.0 + radius**2 / 4.0) ** -1.5
    unit = RINGS.transform(torch.eye(PIXELS).view(PIXELS, *GRID))
    one = RINGS.inverse(unit * power).view(PIXELS, PIXELS).double().numpy()
    one = one / one[0, 0]
    prior = np.kron(np.array([[1.0, 0.6], [0.6, 2.0]]), one)
    response = observed(of_mean=of_mean)
    return Exact(prior, np.linalg.inv(prior) + response.T @ response / NOISE)


def observed(*, of_mean: bool) -> np.ndarray:
    """What is seen of pixels of both fields."""
    one = np.eye(PIXELS) - (0 if of_mean else 1 / PIXELS)
    return np.kron(np.eye(2), np.diag(1.0 - unseen().flatten().numpy()) @ one)


def simulated(count: int, seed: int, *, of_mean: bool = True) -> tuple[Tensor, Tensor]:
    """Fields and their Wiener maps, (M, 2, 12, 12) each."""
    source = np.random.default_rng(seed)
    y = source.standard_normal((count, 2 * PIXELS)) @ np.linalg.cholesky(exact().prior).T
    response = observed(of_mean=of_mean)
    noisy = y @ response.T + NOISE**0.5 * source.standard_normal(y.shape)
    maps = exact(of_mean=of_mean).wiener(noisy @ response)
    fields, data = (torch.from_numpy(pixels).float().view(-1, 2, *GRID) for pixels in (y, maps))
    return fields, data


@cache
def fitted(*, knows: bool, of_mean: bool = True) -> Guide:
    """To simulations, with and without knowing what is missing."""
    field, data = simulated(MANY, 0, of_mean=of_mean)
    guide = Guide(WHITE, 2, GRID, nodes=16, share=unseen() if knows else None)
    u = torch.randn(MANY, 1, generator=torch.Generator().manual_seed(1))
    law = LinearLaw(1, 0)
    law.fit(u, u[:, :0])
    simulations = Parts.held({"u": u, "field": field, "data": data, "vectors": u[:, :0]})
    guide.fit(simulations, law)
    guide.fit_missing(simulations, QuietMonitor())
    return guide


def drawn(guide: Guide, data: Tensor, seed: int) -> Tensor:
    """By the guide alone."""
    u = torch.zeros(len(data), 1)
    told = guide.told(data)
    noise = torch.randn(data.shape, generator=torch.Generator().manual_seed(seed))

    def denoise(state: Tensor, sigma: float) -> Tensor:
        return guide(state, u, told, u[:, :0], torch.full((len(u),), sigma)).field

    levels = torch.linspace(4.0, -3.0, 16).exp().tolist()
    return follow(denoise, noise, guide.expected(u, told, u[:, :0]), levels)


@pytest.mark.parametrize("sigma", [0.3, 1.0, 3.0])
def test_noisy_fields_are_denoised_as_numpy_does(sigma: float) -> None:
    """Of what the guide alone misses, squared and in masked pixels, 94 % is mended at least."""
    field, data = simulated(512, 3)
    noise = torch.randn(field.shape, generator=torch.Generator().manual_seed(4))
    noisy = field + sigma * noise
    flat = (pixels.view(512, -1).double().numpy() for pixels in (data, noisy))
    right, variance = exact().given_noisy(*flat, sigma)
    off = {}
    for knows in (False, True):
        guide = fitted(knows=knows)
        u = torch.zeros(512, 1)
        found = guide(noisy, u, guide.told(data), u[:, :0], torch.full((512,), sigma)).field
        squares = (found.view(512, -1).double().numpy() - right) ** 2 / variance
        off[knows] = squares.mean(0).reshape(2, *GRID)[:, unseen().bool().numpy()].mean()
    assert off[False] > 0.02
    assert off[True] < 0.06 * off[False]


def test_a_mean_of_which_data_tell_nothing_is_denoised_as_numpy_does() -> None:
    """Missing pixels change nothing of it."""
    field, data = simulated(512, 3, of_mean=False)
    noise = torch.randn(field.shape, generator=torch.Generator().manual_seed(4))
    noisy = field + 3.0 * noise
    flat = (pixels.view(512, -1).double().numpy() for pixels in (data, noisy))
    right, _ = exact(of_mean=False).given_noisy(*flat, 3.0)
    guide, u = fitted(knows=True, of_mean=False), torch.zeros(512, 1)
    found = guide(noisy, u, guide.told(data), u[:, :0], torch.full((512,), 3.0)).field
    off = found.view(512, 2, -1).double().numpy() - right.reshape(512, 2, -1)
    squares = field.mean((2, 3)).square().mean(0).numpy()
    assert np.all((off.mean(2) ** 2).mean(0) < 0.002 * squares)


def test_draws_vary_in_masked_pixels_as_they_should() -> None:
    """Spread about the exact mean over the exact variance: masked, beside these, elsewhere."""
    _, data = simulated(2_048, 5)
    right = exact().left.diagonal().reshape(2, *GRID)
    kinds = Missing(unseen(), 2, RINGS).kinds.numpy()
    found = {}
    for knows in (False, True):
        apart = (drawn(fitted(knows=knows), data, 6) - data).square().mean(0).numpy()
        found[knows] = [(apart * kind).sum() / (right * kind).sum() for kind in kinds]
    assert found[False][0] < 0.75
    assert found[True] == pytest.approx([1.0] * 3, abs=0.08)


def test_kinds_of_pixels_are_those_of_a_search() -> None:
    """Missing, beside a missing one, and all others: of every pixel they sum to one."""
    share = unseen()
    share[0, 0] = 0.5  # missed by one of two fields
    near = torch.zeros(GRID)
    for x, y in np.ndindex(*GRID):
        around = share[max(x - 1, 0) : x + 2, max(y - 1, 0) : y + 2]
        near[x, y] = around.max() - share[x, y]
    kinds = Missing(share, 1, RINGS).kinds
    torch.testing.assert_close(kinds, torch.stack([share, near, 1.0 - share - near]))


class Masked:
    """A simulator's masks alone."""

    def __init__(self, **masks: Tensor) -> None:
        self._masks = masks

    def masks(self) -> dict[str, Tensor]:
        return self._masks


def test_what_is_missing_is_what_masks_say() -> None:
    """A share of the channels on the grid; none where all is seen, or nothing is masked."""
    seen = torch.ones(2, *GRID, dtype=torch.bool)
    seen[0, 3] = False
    other, grids = torch.zeros(1, 5, 7, dtype=torch.bool), Grids(GRID, None, {})
    share = missing(Masked(shear=seen, small=other), grids)  # type: ignore[arg-type]
    expected = torch.zeros(GRID)
    expected[3] = 0.5
    torch.testing.assert_close(share, expected)
    for masks in ({}, {"small": other}, {"shear": torch.ones_like(seen)}):
        assert missing(Masked(**masks), grids) is None  # type: ignore[arg-type]
    assert missing(object(), grids) is None  # type: ignore[arg-type]
