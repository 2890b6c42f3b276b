"""Coordinates that know the data, against white ones, the posterior of Wiener and finite differences."""

from __future__ import annotations

import json
import math
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from lognormal_helpers import white_density
from torch import Tensor

from sbikit import LogDensity, draw_seeds, normals
from sbikit_lognormal.field import (
    GaussianConvergence,
    LogNormalConvergence,
    Pixels,
    RandomField,
    correlation_matrix,
    white_modes,
    white_numbers,
)
from sbikit_lognormal.posterior import (
    ConditionedDensity,
    Conditioning,
    JointDensity,
    SurveyDensity,
    fitted_factors,
    on_numbers,
    on_quadrant,
)
from sbikit_lognormal.simulator import LogNormal, LogNormalOptions
from sbikit_lognormal.spectra import ELL

BOTH_FIELDS = pytest.mark.parametrize("field", ["lognormal", "gaussian"])
BOTH_DATA = pytest.mark.parametrize("observes", ["shear", "convergence"])
CPU = torch.device("cpu")


def made(**options: Any) -> LogNormal:
    """A simulator of options as a configuration file has them."""
    return LogNormal(LogNormalOptions.model_validate_json(json.dumps(options)))


@cache
def one_bin(size: int, field: str, observes: str) -> LogNormal:
    """One bin on a periodic patch with even noise, little enough for the data to matter."""
    return made(size=size, extent=0.625 * size, field=field, observes=observes, n_gal=200.0)


def simulated(simulator: LogNormal, count: int) -> dict[str, Tensor]:
    """Observations (count, ...)."""
    theta = simulator.prior.sample(draw_seeds(3, "parameters", 0, count))
    outputs = simulator.simulate(theta, seeds=draw_seeds(3, "simulator", 0, count))
    return {name: outputs[name] for name in simulator.observed}


def points(density: LogDensity, *shape: int) -> Tensor:
    """Coordinates (*shape, size)."""
    seeds = draw_seeds(0, "coordinates", 0, math.prod(shape))
    return normals(seeds, (density.size,)).double().unflatten(0, shape)


class Powers:
    """What is known of the modes of one bin at parameters (..., D), on the full plane of N x N modes.

    Attributes:
        gaussian: S of G.
        kappa: P of the convergence.
        noise: sigma^2.
    """

    def __init__(self, simulator: LogNormal, theta: Tensor) -> None:
        pixels = Pixels(simulator.size, math.radians(simulator.options.extent))
        spectra, shift = simulator.spectra(theta)
        xi = (spectra[..., 0, :] @ torch.from_numpy(correlation_matrix(pixels, ELL)).T)[..., pixels.lag_index]
        self._bounded = simulator.options.field == "lognormal"
        self._shift = shift[..., None] if self._bounded else torch.ones_like(spectra[..., :1])
        xi_gaussian = torch.log1p(xi / self._shift**2) if self._bounded else xi
        self._variance = xi_gaussian[..., :1, :1]
        self.kappa, self.gaussian = torch.fft.fft2(xi).real, torch.fft.fft2(xi_gaussian).real
        self.noise = float(simulator.survey.noise[0, 0, 0]) ** 2
        self._mean_seen = simulator.options.observes == "convergence"

    def left(self, mean: Tensor | None = None) -> Tensor:
        """c (..., N, N), the variance of a white mode that the data leave, were kappa b G + Gaussian rest.

        Args:
            mean: the white number of mode 0 of a log-normal field, (...), given which its shift is another.
        """
        shift, kappa = self._shift, self.kappa
        if self._bounded and mean is not None:
            sd = self.gaussian[..., :1, :1].sqrt() / self.gaussian.shape[-1]
            amplitude = torch.exp(sd * mean[..., None, None] - 0.5 * sd**2)
            shift = shift * amplitude
            # The correlation function of a field of this shift, with sd^2 less in every lag of that of G.
            xi = torch.fft.ifft2(self.gaussian).real - sd**2
            kappa = shift**2 * torch.fft.fft2(torch.expm1(xi)).real
        left = 1.0 - shift**2 * self.gaussian / (kappa + self.noise)
        mode_0 = 1.0 - self._shift**2 * self.gaussian / (self.kappa + self.noise)
        left[..., 0, 0] = mode_0[..., 0, 0] if self._mean_seen else 1.0
        return left

    def log_jacobian(self, w: Tensor) -> Tensor:
        """log |dw / du| (...), at white coordinates (..., 3 + N^2)."""
        return 0.5 * self.left(w[..., 3]).log().sum((-2, -1))

    def numbers(self, kappa: Tensor) -> Tensor:
        """The white numbers (..., N^2) behind convergence (..., 1, N, N)."""
        field = kappa.squeeze(-3)
        if self._bounded:
            field = torch.log1p(field / self._shift) + 0.5 * self._variance
        half = field.shape[-1] // 2 + 1
        return white_numbers(torch.fft.rfft2(field) / self.gaussian[..., :half].sqrt()).flatten(-2)


def whitened(simulator: LogNormal, density: LogDensity, z: Tensor) -> tuple[Tensor, Powers]:
    """White coordinates of conditioned ones, by way of the maps, and the powers of their parameters."""
    latents = density.decode(z)
    powers = Powers(simulator, latents["theta"])
    numbers = powers.numbers(latents["kappa"])
    return torch.cat([z[..., : density.parameters], numbers], -1), powers


@BOTH_FIELDS
@BOTH_DATA
@pytest.mark.parametrize("size", [8, 16])
def test_conditioned_density_is_the_white_one_with_its_jacobian(field: str, observes: str, size: int) -> None:
    simulator = one_bin(size, field, observes)
    observation = simulated(simulator, 3)
    conditioned, white = simulator.log_density(observation), white_density(simulator, observation)
    z = points(conditioned, 4, 3)
    w, powers = whitened(simulator, conditioned, z)
    for name, value in white.decode(w).items():
        torch.testing.assert_close(conditioned.decode(z)[name], value, rtol=1e-10, atol=1e-13)
    surplus = conditioned.log_prob(z) - white.log_prob(w)
    # A constant of each observation is left out: what the B mode of its noise says.
    jacobian = powers.log_jacobian(w)
    torch.testing.assert_close(surplus[1:] - surplus[0], jacobian[1:] - jacobian[0], rtol=0, atol=1e-8)
    # The alarm rings: parameters and data matter to it.
    assert float((jacobian[1:] - jacobian[0]).abs().min()) > 1e-2
    assert float((w - z)[..., 3:].abs().amax(-1).min()) > 0.5


@BOTH_FIELDS
@BOTH_DATA
def test_log_jacobian_is_that_of_autograd(field: str, observes: str) -> None:
    simulator = one_bin(8, field, observes)
    density = simulator.log_density(simulated(simulator, 1))
    z = points(density, 1)

    def numbers(u: Tensor) -> Tensor:
        return whitened(simulator, density, torch.cat([z[:, :3], u], -1))[0][0, 3:]

    jacobian = torch.autograd.functional.jacobian(numbers, z[:, 3:])[:, 0]
    w, powers = whitened(simulator, density, z)
    sign, logarithm = torch.linalg.slogdet(jacobian)
    assert float(sign) == 1.0
    torch.testing.assert_close(logarithm, powers.log_jacobian(w)[0], rtol=1e-9, atol=0)
    assert float(logarithm) < -1.0


@BOTH_DATA
def test_of_a_gaussian_field_the_coordinates_are_normal_and_parameters_apart(observes: str) -> None:
    """What is left is the posterior of the parameters, of data whose modes have the variance P + sigma^2."""
    simulator = one_bin(16, "gaussian", observes)
    observation = simulated(simulator, 3)
    density = simulator.log_density(observation)
    z = points(density, 5, 4, 3)
    z[..., :3] = z[:1, ..., :3]
    left = density.log_prob(z) + 0.5 * z[..., 3:].square().sum(-1)
    torch.testing.assert_close(left[1:], left[:1].expand(4, 4, 3), rtol=0, atol=1e-9)
    powers = Powers(simulator, density.decode(z[0])["theta"])
    total = powers.kappa + powers.noise
    modes = torch.fft.fft2(convergence_seen(simulator, observation)).abs().square() / 16**2
    seen = (powers.left() < 1.0).double()
    marginal = -0.5 * (seen * (total.log() + modes / total)).sum((-2, -1))
    expected = marginal - 0.5 * z[0, ..., :3].square().sum(-1)
    torch.testing.assert_close(left[0, 1:] - left[0, 0], expected[1:] - expected[0], rtol=0, atol=1e-8)
    assert float((expected[1:] - expected[0]).abs().min()) > 1e-2


def convergence_seen(simulator: LogNormal, observation: dict[str, Tensor]) -> Tensor:
    """The data as convergence, (B, N, N)."""
    if simulator.options.observes == "shear":
        observation = simulator.summaries({"shear": observation["shear"].double()})
    (data,) = observation.values()
    return data[:, 0].double()


@BOTH_DATA
def test_draws_of_a_gaussian_field_have_wiener_s_mean_and_covariance(observes: str) -> None:
    """Maps are linear in the coordinates: their mean is that of 0, their covariance A A^T."""
    size = 8
    simulator = one_bin(size, "gaussian", observes)
    observation = simulated(simulator, 1)
    density = simulator.log_density(observation)
    z = torch.cat([torch.zeros(1, size**2), torch.eye(size**2), torch.full((1, size**2), 2.0)]).double()
    theta = torch.tensor([0.4, -0.7, 1.1], dtype=torch.float64).expand(len(z), 3)
    maps = density.decode(torch.cat([theta, z], -1)[:, None])["kappa"][:, 0, 0]
    powers = Powers(simulator, density.decode(torch.cat([theta, z], -1)[:1, None])["theta"][0, 0])
    gain = powers.kappa / (powers.kappa + powers.noise)
    variance = gain * powers.noise
    if observes == "shear":
        gain[0, 0], variance[0, 0] = 0.0, powers.kappa[0, 0]
    mean = torch.fft.ifft2(gain * torch.fft.fft2(convergence_seen(simulator, observation)[0])).real
    torch.testing.assert_close(maps[0], mean, rtol=0, atol=1e-14)
    assert float(mean.abs().max()) > 1e-3
    columns = (maps[1:-1] - maps[0]).flatten(1)
    correlation = torch.fft.ifft2(variance).real
    lags = [(torch.arange(size)[:, None] - torch.arange(size)) % size for _ in range(2)]
    expected = correlation[lags[0][:, None, :, None], lags[1][None, :, None, :]].reshape(size**2, size**2)
    torch.testing.assert_close(columns.T @ columns, expected, rtol=0, atol=1e-11 * float(expected.max()))
    torch.testing.assert_close(maps[-1].flatten() - mean.flatten(), 2.0 * columns.sum(0), rtol=0, atol=1e-13)


@pytest.mark.parametrize("size", [2, 8, 14])
def test_white_numbers_are_those_of_white_modes(size: int) -> None:
    w = normals(draw_seeds(0, "white", 0, 6), (size, size)).double().unflatten(0, (3, 2))
    torch.testing.assert_close(white_numbers(white_modes(w.clone())), w, rtol=0, atol=1e-14)
    modes = torch.fft.rfft2(w)
    torch.testing.assert_close(white_modes(white_numbers(modes)), modes, rtol=0, atol=1e-13)


@pytest.mark.parametrize("size", [2, 8, 14])
def test_sums_over_a_mode_s_numbers_are_the_transpose_of_its_factors(size: int) -> None:
    half = size // 2 + 1
    factors = normals(draw_seeds(0, "factors", 0, 3), (half, half)).double()
    numbers = normals(draw_seeds(0, "numbers", 0, 3), (size, size)).double()
    expected = (on_numbers(factors) * numbers).sum((-2, -1))
    torch.testing.assert_close((factors * on_quadrant(numbers)).sum((-2, -1)), expected)
    # And the factors are those of the modes that the numbers make.
    made = white_modes(on_numbers(factors) * numbers)
    plane = torch.cat([factors, factors[:, 1:-1].flip(-2)], -2)
    torch.testing.assert_close(made, plane * white_modes(numbers.clone()), rtol=0, atol=1e-12)


@BOTH_FIELDS
@BOTH_DATA
def test_gradient_agrees_with_finite_differences(field: str, observes: str) -> None:
    """Along every parameter and random directions, to 1e-6 of the gradient."""
    simulator = one_bin(8, field, observes)
    density = simulator.log_density(simulated(simulator, 1))
    z = points(density, 1).requires_grad_()
    (gradient,) = torch.autograd.grad(density.log_prob(z).sum(), z)
    some = normals(draw_seeds(0, "directions", 0, 12), (density.size,)).double()
    directions = torch.cat([torch.eye(density.size, dtype=torch.float64)[:3], some])
    h = 1e-2
    with torch.no_grad():
        at = z + torch.tensor([-2.0, -1.0, 1.0, 2.0])[:, None, None, None] * h * directions[:, None]
        far_below, below, above, far_above = density.log_prob(at)
        difference = (8 * (above - below) - (far_above - far_below)) / (12 * h)
    scale = directions.norm(dim=1) * gradient.norm()
    assert float(((difference[:, 0] - directions @ gradient[0]).abs() / scale).max()) < 1e-6
    assert float(gradient[0, :3].abs().min()) > 1e-3


NORMAL = {
    "prior": "wcdm",
    "omega_c": {"normal": [0.3, 0.05]},
    "sigma_8": {"normal": [0.8, 0.05]},
    **{"omega_b": 0.0486, "h": 0.6774, "n_s": 0.9667, "w_0": -1.0},
}


@BOTH_FIELDS
@BOTH_DATA
@pytest.mark.parametrize("laws", [{}, NORMAL], ids=["uniform", "normal"])
@pytest.mark.parametrize("size", [8, 16])
def test_quick_gradient_is_near_that_of_autograd(field: str, observes: str, laws: Any, size: int) -> None:
    """To 0.5 % in every part, at draws from the prior."""
    simulator = made(size=size, extent=0.625 * size, field=field, observes=observes, n_gal=200.0, **laws)
    density = simulator.log_density(simulated(simulator, 3))
    assert density.gradient is not None
    z = points(density, 20, 3).requires_grad_()
    (exact,) = torch.autograd.grad(density.log_prob(z).sum(), z)
    z = z.detach()
    quick = density.gradient(z.float())
    assert (quick.dtype, quick.shape) == (torch.float32, z.shape)
    count = density.parameters
    for part in (slice(0, count), slice(count, None)):
        if field == "lognormal" or part.start == 0:
            # The data matter here: without them each would be -z.
            assert float((exact + z)[..., part].norm()) > 0.1 * float(exact[..., part].norm())
        assert float((quick - exact)[..., part].norm()) < 0.005 * float(exact[..., part].norm())


@pytest.mark.parametrize("laws", [{}, NORMAL], ids=["uniform", "normal"])
def test_quick_gradient_leads_back_from_far_away(laws: Any) -> None:
    """Where no chain stays but one may start: finite, and the prior's where the end of a law is reached."""
    simulator = made(size=16, extent=10.0, **laws)
    density = simulator.log_density(simulated(simulator, 1))
    assert density.gradient is not None
    z = points(density, 1).expand(9, 1, -1).clone()
    z[:, 0, 1] = torch.tensor([-40.0, -12.0, -8.68, -6.0, 0.0, 6.0, 8.68, 12.0, 40.0])
    quick = density.gradient(z.float())
    assert bool(torch.isfinite(quick).all())
    if not laws:
        z.requires_grad_()
        (exact,) = torch.autograd.grad(density.log_prob(z).sum(), z)
        torch.testing.assert_close(quick[..., 1].double(), exact[..., 1], rtol=2e-3, atol=2e-2)


def test_of_one_bin_and_many_laws_there_is_no_quick_gradient() -> None:
    simulator = made(size=8, extent=5.0, prior="wcdm")
    assert simulator.log_density(simulated(simulator, 1)).gradient is None


PIXELS = Pixels(32, math.radians(10.0))
RING = np.exp(-0.5 * (np.log(ELL / 200) / 0.15) ** 2)
SMOOTH = 1e-9 * (ELL / 100) ** -1.1 / (1 + ELL / 3000)


@pytest.mark.parametrize("kind", [SurveyDensity, ConditionedDensity])
@pytest.mark.parametrize(
    ("field", "impossible"),
    [
        (GaussianConvergence(PIXELS, ELL, 1, torch.float64), SMOOTH - 1e-9 * RING),
        # The logarithm has negative power, and then does not exist.
        (LogNormalConvergence(PIXELS, ELL, 1, torch.float64), 1e-9 * RING),
        (LogNormalConvergence(PIXELS, ELL, 1, torch.float64), 1e-6 * RING),
    ],
)
def test_where_no_field_exists_there_is_no_density_and_other_rows_do_not_mind(
    kind: type[JointDensity], field: RandomField, impossible: np.ndarray
) -> None:
    prior = one_bin(8, "gaussian", "shear").prior
    bounded = isinstance(field, LogNormalConvergence)

    def spectra(theta: Tensor) -> tuple[Tensor, Tensor]:
        s8 = theta[..., 1, None, None]
        power = torch.where(s8 > 0.95, torch.from_numpy(impossible), s8**2 * torch.from_numpy(SMOOTH))
        return power, torch.full_like(theta[..., :1], 0.01) if bounded else theta[..., :0]

    data = 0.01 * normals(draw_seeds(0, "data", 0, 3), (1, 32, 32)).double()
    if kind is ConditionedDensity:
        conditioning = Conditioning(field, 1e-4, mean_seen=True, device=CPU)
        assert fitted_factors(prior, spectra, field, CPU) is None
        joint: JointDensity = ConditionedDensity(prior, spectra, conditioning, data)
    else:
        weight = torch.full((1, 32, 32), 1e4, dtype=torch.float64)
        joint = SurveyDensity(
            prior,
            spectra,
            field,
            data[:, :, None],
            weight,
            noiseless=lambda kappa, theta: kappa[..., None, :, :],
        )
    density = joint.density(lambda box: box)

    def density_and_gradient(second: float) -> tuple[Tensor, Tensor]:
        z = points(density, 3)
        z[:, 1] = torch.tensor([0.0, second, 0.3])
        z.requires_grad_()
        value = density.log_prob(z)
        return value.detach(), torch.autograd.grad(value.sum(), z)[0]

    value, gradient = density_and_gradient(3.0)
    expected, expected_gradient = density_and_gradient(0.5)
    assert bool(torch.isfinite(expected).all())
    assert not float(value[1]) > -math.inf
    torch.testing.assert_close(value[::2], expected[::2], rtol=1e-13, atol=0)
    torch.testing.assert_close(gradient[::2], expected_gradient[::2], rtol=1e-10, atol=1e-10)


ELSEWHERE = {
    "padded": {"padding": 2},
    "masked": {"mask": {"density": 8.0, "radius": 4.0, "edge": 10.0}},
    "uneven": {"depth": {"scatter": 0.3, "scale": 60.0}},
    "biased": {"shear_bias": 0.02},
    "free": {"shear_bias": {"normal": [0.0, 0.02]}, "a_ia": {"uniform": [-1.0, 1.0]}},
    "two bins": {"sources": {"bins": 2}},
}


@BOTH_FIELDS
@pytest.mark.parametrize("case", ["plain", *ELSEWHERE])
def test_coordinates_know_the_data_where_the_box_is_the_patch(case: str, field: str) -> None:
    simulator = made(size=8, extent=5.0, field=field, **ELSEWHERE.get(case, {}))
    density = simulator.log_density(simulated(simulator, 2))
    z = points(density, 1).expand(2, -1)
    latents = density.decode(z)
    count = len(simulator.prior.laws)
    assert density.parameters == count
    assert density.size == count + simulator.bins * simulator.box**2
    torch.testing.assert_close(latents["theta"], simulator.prior.from_white(z[:, :count]))
    first, second = latents["kappa"]
    distance = float((first - second).std() / first.std())
    assert distance < 1e-12 if case == "padded" else distance > 0.1


@BOTH_FIELDS
@BOTH_DATA
@pytest.mark.parametrize("case", ELSEWHERE)
def test_survey_gradient_is_that_of_autograd(case: str, observes: str, field: str) -> None:
    """To float32's precision in every part, at draws from the prior."""
    simulator = made(size=8, extent=5.0, field=field, observes=observes, n_gal=200.0, **ELSEWHERE[case])
    density = simulator.log_density(simulated(simulator, 3))
    assert density.gradient is not None
    z = points(density, 5, 3).requires_grad_()
    (exact,) = torch.autograd.grad(density.log_prob(z).sum(), z)
    z = z.detach()
    quick = density.gradient(z.float())
    assert (quick.dtype, quick.shape) == (torch.float32, z.shape)
    for part in (slice(0, density.parameters), slice(density.parameters, None)):
        if part.start == 0 or (case, field) != ("two bins", "gaussian"):
            # The data matter here: without them each would be -z.
            assert float((exact + z)[..., part].norm()) > 0.1 * float(exact[..., part].norm())
        assert float((quick - exact)[..., part].norm()) < 2e-5 * float(exact[..., part].norm())


@pytest.mark.parametrize("case", ["masked", "two bins"])
def test_survey_gradient_of_a_row_does_not_depend_on_the_batch(case: str) -> None:
    simulator = made(size=32, extent=10.0, **ELSEWHERE[case])
    seen = simulated(simulator, 3)
    z = points(simulator.log_density(seen), 4, 3).float()
    together = simulator.log_density(seen).gradient
    alone = simulator.log_density({name: values[1:2] for name, values in seen.items()}).gradient
    assert together is not None
    assert alone is not None
    assert torch.equal(together(z)[:, 1:2], alone(z[:, 1:2]))


@BOTH_FIELDS
@BOTH_DATA
@pytest.mark.parametrize("case", [case for case in ELSEWHERE if case != "padded"])
def test_survey_density_is_the_white_one_with_its_jacobian(case: str, observes: str, field: str) -> None:
    """White numbers by way of the maps, with dense matrices; their Jacobian by autograd."""
    simulator = made(size=8, extent=5.0, field=field, observes=observes, n_gal=200.0, **ELSEWHERE[case])
    observation = simulated(simulator, 1)
    conditioned, engine = simulator.log_density(observation), simulator._engine(torch.float64, CPU)
    white = white_density(simulator, observation)
    z = points(conditioned, 1)
    count = conditioned.parameters

    def numbers(u: Tensor) -> Tensor:
        latents = conditioned.decode(torch.cat([z[:, :count], u[None]], -1))
        law, kappa = engine.gaussian(latents["theta"]), latents["kappa"].reshape(simulator.bins, 8, 8)
        if field == "lognormal":
            kappa = torch.log1p(kappa / law.shift[0][:, None, None]) + 0.5 * law.variance[0][:, None, None]
        made = white_numbers(torch.fft.rfft2(kappa))
        root = torch.zeros(simulator.bins, simulator.bins, 8, 8, dtype=torch.float64)
        i, j = torch.tril_indices(simulator.bins, simulator.bins)
        root[j, i] = on_numbers(law.root[0])
        return torch.linalg.solve(root.permute(2, 3, 0, 1), made.permute(1, 2, 0)).permute(2, 0, 1).flatten()

    w = torch.cat([z[:, :count], numbers(z[0, count:])[None]], -1)
    torch.testing.assert_close(
        white.decode(w)["kappa"], conditioned.decode(z)["kappa"], rtol=1e-9, atol=1e-12
    )
    sign, jacobian = torch.linalg.slogdet(torch.autograd.functional.jacobian(numbers, z[0, count:]))
    assert float(sign) == 1.0
    torch.testing.assert_close(
        conditioned.log_prob(z) - white.log_prob(w), jacobian[None], rtol=1e-8, atol=1e-8
    )
    assert float(jacobian) < -1.0
