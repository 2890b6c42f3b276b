"""Statistics of the guide's map of several channels, against numpy and the whole covariance."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from bump import Bump
from torch import Tensor

from sbikit import Simulations
from sbikit.fields import Rings, Scales
from sbikit_transformer.constants import fit_constants
from sbikit_transformer.denoiser import Denoiser
from sbikit_transformer.guide import Guide
from sbikit_transformer.guided_statistics import GuidedStatistics
from sbikit_transformer.polynomials import Quadratic

SIDE, CHANNELS = 12, 2
RINGS = Rings.shells((SIDE, SIDE))
BANDS = Rings.logarithmic((SIDE, SIDE), (12.0, 12.0), 12)
# Of two fields and their data, in the middle of the prior: power 1 / (1 + |k|), correlated, noise .5 and .3.
FIELD = torch.tensor([[1.0, 0.6], [0.6, 0.8]])
NOISE = torch.diag(torch.tensor([0.5, 0.3]))


def spectra(k: Tensor) -> Tensor:
    """Of the fields at wave numbers |k|, (modes, 2, 2)."""
    return FIELD / (1.0 + k[:, None, None])


def guide() -> Guide:
    """One that knows these spectra, by regressing each number on those before it."""
    made = Guide(Quadratic(torch.zeros(1, dtype=torch.bool)), CHANNELS, (SIDE, SIDE), nodes=16)
    field = spectra(RINGS.k)
    whole = torch.cat([torch.cat([field, field], -1), torch.cat([field, field + NOISE], -1)], -2).double()
    pair = 0
    for i in range(2 * CHANNELS):
        slopes = torch.linalg.solve(whole[:, :i, :i], whole[:, :i, i])
        left = whole[:, i, i] - (slopes * whole[:, :i, i]).sum(-1)
        made.log_variance[i, 0] = left.log()
        made.slope[pair : pair + i, 0] = slopes.mT.float()
        pair += i
    return made


def data() -> Tensor:
    """White, so unlike the law, which the statistics of a map do not care about."""
    return torch.randn(3, CHANNELS, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def test_the_map_is_the_wiener_filter_of_all_channels() -> None:
    made = GuidedStatistics(guide(), 1, (SIDE, SIDE), periodic=True)
    modes = RINGS.transform(data())
    found = made.of_map(modes, made.power(modes))
    k = np.hypot(*np.meshgrid(np.fft.fftfreq(SIDE) * SIDE, np.fft.fftfreq(SIDE) * SIDE, indexing="ij"))
    square = (k**2).round().astype(int)
    label = np.where(square <= 36, square, 1000 * np.sqrt(square).round().astype(int))
    radius = np.vectorize({ring: k[label == ring].mean() for ring in np.unique(label)}.get)(label)
    field = spectra(torch.from_numpy(radius.ravel())).double().numpy()
    gain = field @ np.linalg.inv(field + NOISE.double().numpy())
    modes = np.fft.fft2(data().double().numpy()).reshape(3, CHANNELS, -1)
    filtered = np.einsum("kij,bjk->bik", gain, modes).reshape(3, CHANNELS, SIDE, SIDE)
    expected = Scales((SIDE, SIDE), periodic=True)(torch.from_numpy(np.fft.ifft2(filtered).real).float())
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3)


def test_the_guide_is_asked_for_the_scalars_that_power_lets_expect() -> None:
    """Up to 3 prior standard deviations: of data that are louder and louder the field is."""
    asked = guide()
    asked.log_variance[:CHANNELS, 1] = 0.8
    made = GuidedStatistics(asked, 1, (SIDE, SIDE), periodic=True)
    u = torch.randn(2000, 1, generator=torch.Generator().manual_seed(1))
    noise = torch.randn(2000, CHANNELS, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    made.fit_power(u, made.power(RINGS.transform(torch.exp(0.25 * u)[..., None, None] * noise)))
    modes = RINGS.transform(data() * torch.tensor([0.7, 1.0, 9.0])[:, None, None, None])
    power = made.power(modes)
    at = made.where(made.power_scale(power)).mean
    assert at[0, 0] < at[1, 0] < 3.0 < at[2, 0]
    assert abs(float(at[0, 0]) - 4.0 * np.log(0.7)) < 0.5
    wiener = asked.expected(at.clamp(max=3.0), modes, at[:, :0]).mean
    torch.testing.assert_close(made.of_map(modes, power), made.scales(wiener))
    middle = asked.expected(0.0 * at, modes, at[:, :0]).mean
    assert float((made.of_map(modes, power) - made.scales(middle)).abs().max()) > 0.1


def test_power_and_correlations_are_those_of_the_data() -> None:
    made = GuidedStatistics(guide(), 1, (SIDE, SIDE), periodic=True)
    found = made.power(RINGS.transform(data()))
    frequencies = np.fft.fftfreq(SIDE) * 2 * np.pi
    k = np.hypot(*np.meshgrid(frequencies, frequencies, indexing="ij"))
    a, b = np.moveaxis(np.fft.fft2(data().double().numpy()), 1, 0)
    edges = np.geomspace(2 * np.pi / SIDE, np.pi, 13) * (1.0 - 1e-6)
    edges[-1] = np.inf  # the corners belong to the last
    bands = [(k >= low) & (k < high) for low, high in itertools.pairwise(edges)]
    bands = [band for band in bands if band.any()]
    own = [np.stack([(np.abs(x[:, band]) ** 2).mean(1) / SIDE**2 for band in bands], 1) for x in (a, b)]
    both = np.stack([(a[:, band] * b[:, band].conj()).real.mean(1) / SIDE**2 for band in bands], 1)
    logs = [np.log(x + 1e-6 * x.mean(1, keepdims=True)) for x in own]
    expected = np.concatenate([*logs, both / np.sqrt(own[0] * own[1])], 1)
    assert len(bands) == len(BANDS)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-4)


def test_a_condition_has_statistics_of_data_and_guide_standardised_and_bounded() -> None:
    """Of the simulations that fitted them mean 0 and sd 1, as told of no observation beyond 6; counted are
    those beyond, of which the strangest simulation has as many as is called usual.
    """
    problem = Bump((SIDE, SIDE), stationary=True, latent=True, channels=CHANNELS)
    denoiser = Denoiser(problem, problem.spec, patch=4, width=16, depth=1, heads=2, nodes=16)
    values = Simulations(problem, 0).training(0, 256)
    fit_constants(denoiser, [values])
    made = denoiser.guided_statistics
    assert made is not None
    condition = denoiser.condition(values)
    power = made.power(condition.modes)
    own = torch.cat([power, made.of_map(condition.modes, power)], 1)
    expected = (own - own.mean(0)) / own.std(0)
    varies = own.std(0) > 1e-4
    assert varies.float().mean() > 0.8  # on so few pixels nothing is 3 sd above the mean
    found = condition.statistics[:, -own.shape[1] :]
    torch.testing.assert_close(found[:, varies], expected[:, varies].clamp(-6, 6), atol=2e-3, rtol=0)
    assert torch.equal(condition.alien.amax(0), denoiser.data_map.most_alien.long())
    strange = denoiser.condition({**values, "data": 1e3 * values["data"]})
    assert float(strange.statistics.abs().max()) == 6.0
    assert (strange.alien[:, 1] > denoiser.data_map.most_alien[1]).all()
