r"""The linear Gaussian model of the guide, mode by mode, at parameters u.

The C latent fields y and their C data fields d make up z = (y_1, ..., y_C, d_1, ..., d_C), in orthonormal
Fourier modes of ring r, and each is what those before it tell and something of its own,

    z_i = sum_(j<i) a_ijr(u) z_j + e_i,    e_i ~ N(0, v_ir(u)).

Any slopes a and variances v > 0 make a normal law, and each normal law is one of these (Pourahmadi 1999,
Biometrika 86, 677). With T = 1 - a, unit lower triangular, its precision is T' diag(1/v) T. Of one field it
is y ~ N(0, v_1), d = a y + n, n ~ N(0, v_2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from sbikit import Values
from sbikit.fields import Rings
from sbikit.learning import Parts
from sbikit_transformer.polynomials import Quadratic, fit_gamma

# Power that counts as none, of a field's mean power: it keeps the logarithm of an empty ring finite, and of a
# field that has no more in a ring no slopes are taken, which would be ratios of roundings. Those have 1e-14;
# a larger value hides steep spectra, and what nearly equal data fields do not share: with 1e-6, and slopes
# ridged by 1e-4 of a ring's power, the Wiener maps of five bins lost 2 % of the last bin's error, and the
# guide expected 5 % less than it had.
_FLOOR = 1e-10
_TINY = 1e-12  # the same where there is no power at all
# Least share of a data field's variance that those before it do not tell, in the likelihood.
_LEAST_OWN = 1e-12


@dataclass(frozen=True)
class Denoised:
    """What is known of B noisy fields.

    Args:
        mean: modes (B, C, modes).
        covariance: of each ring, (B, rings, C, C) float64.
        error: rms over the pixels, (B, C).
    """

    mean: Tensor
    covariance: Tensor
    error: Tensor


@dataclass(frozen=True)
class LinearModel:
    """The model at parameters u.

    Args:
        variance: v, (*, 2 C, rings).
        slope: a_ij for j < i, row by row, (*, C (2 C - 1), rings).
    """

    variance: Tensor
    slope: Tensor

    @property
    def channels(self) -> int:
        """C."""
        return self.variance.shape[-2] // 2

    def _slopes(self) -> Tensor:
        """a, strictly lower triangular, (*, rings, 2 C, 2 C) float64."""
        size = 2 * self.channels
        row, column = torch.tril_indices(size, size, offset=-1)
        lower = self.slope.new_zeros(*self.slope.shape[:-2], self.slope.shape[-1], size, size).double()
        lower[..., row, column] = self.slope.mT.double()
        return lower

    def log_likelihood(self, power: Tensor, count: Tensor) -> Tensor:
        """Log likelihood of the data at each u, (*,), float64.

        Entry by entry of all matrices at once, since they are many and small.

        Args:
            power: of the data, cross-power summed over rings, (*, rings, C, C).
            count: modes a ring.
        """
        left, channels = self._of_data(), self.channels
        told = [[power[..., i, j].double() for j in range(channels)] for i in range(channels)]
        total = count.new_zeros((), dtype=torch.float64)
        for k in range(channels):  # the data one by one, each given those before it
            own = left[k][k]
            total = total + count * torch.log(own) + told[k][k] / own
            share = {i: left[i][k] / own for i in range(k + 1, channels)}
            for i, of_i in share.items():
                for j, of_j in list(share.items())[: i - k]:
                    left[i][j] = left[i][j] - of_i * left[j][k]
                    mixed = told[i][j] - of_i * told[k][j] - of_j * told[i][k]
                    told[i][j] = told[j][i] = mixed + of_i * of_j * told[k][k]
                left[i][i] = torch.maximum(left[i][i], _LEAST_OWN * self.variance.sum(-2).double())
        return -0.5 * total.sum(-1)

    def _of_data(self) -> list[list[Tensor]]:
        """Covariance of the data, its lower triangle, each entry (*, rings) float64."""
        first, size = self.channels, 2 * self.channels
        slopes = iter(self.slope.double().unbind(-2))
        variance = self.variance.double().unbind(-2)
        made: list[list[Tensor]] = []  # (1 - a)^-1 below its diagonal: what each of z is made of
        for i in range(size):
            a = [next(slopes) for _ in range(i)]
            made.append([a[j] + sum(a[k] * made[k][j] for k in range(j + 1, i)) for j in range(i)])

        def covariance(i: int, j: int) -> Tensor:
            own = variance[j] if i == j else made[i][j] * variance[j]
            return own + sum(made[i][k] * made[j][k] * variance[k] for k in range(j))

        return [[covariance(i, j) for j in range(first, i + 1)] for i in range(first, size)]

    def wiener(
        self,
        modes: tuple[Tensor, Tensor],
        noise: Tensor,
        rings: Rings,
        of_mean: MultivariateNormal | None = None,
    ) -> Denoised:
        """The clean field given a noisy one, at one u each.

        Args:
            modes: of noisy field and data, each (B, C, modes).
            noise: variance of the noise on the field, (B,).
            rings: of the grid.
            of_mean: law of mode zero, in place of the model's own.
        """
        channels = self.channels
        precision, data = self._given_mean(modes[1], of_mean)
        scale = noise.double()[:, None, None, None]
        # (precision + 1 / noise)^-1 (y / noise - ...), times noise above and below.
        eye = torch.eye(channels, dtype=torch.float64, device=noise.device)
        of_y = torch.linalg.inv(eye + scale * precision[..., :channels])
        gain = torch.cat([of_y, -of_y @ (scale * precision[..., channels:])], -1)
        variance = of_y.diagonal(dim1=-2, dim2=-1).mT * noise.double()[:, None, None]
        error = ((variance * rings.count).sum(-1) / rings.count.sum()).sqrt()
        mean = applied(gain, torch.cat([modes[0], data], 1), rings)
        return Denoised(mean, scale * of_y, error.to(noise.dtype))

    def mean(self, data: Tensor, rings: Rings, of_mean: MultivariateNormal | None = None) -> Tensor:
        """Of the fields given data alone, see `given`."""
        precision, data = self._given_mean(data, of_mean)
        return self._mean(precision, data, rings)

    def given(
        self, data: Tensor, rings: Rings, of_mean: MultivariateNormal | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Normal laws of the fields, at one u each: their means, modes (B, C, modes), and of each ring
        variances (B, C, rings) along axes, the columns of (B, rings, C, C).

        Args:
            data: (B, C, modes).
            rings: of the grid.
            of_mean: law of mode zero, in place of the model's own.
        """
        precision, data = self._given_mean(data, of_mean)
        least_first, axes = torch.linalg.eigh(precision[..., : self.channels])
        return self._mean(precision, data, rings), least_first.reciprocal().mT, axes

    def log_density(self, modes: tuple[Tensor, Tensor], rings: Rings) -> Tensor:
        """Of the fields given data, at one u each, (B,), float64, without the constant.

        Args:
            modes: of fields and data, each (B, C, modes).
            rings: of the grid.
        """
        mean, variance, axes = self.given(modes[1], rings)
        along = rotated(axes, modes[0] - mean, rings)
        power = torch.view_as_real(along).double().square().sum(-1)
        of_mode = variance[..., rings.index]
        return -0.5 * ((power / of_mode + of_mode.log()) * rings.weight).sum((1, 2))

    def of_mean(self, data: Tensor) -> MultivariateNormal:
        """Laws of the fields' amplitudes of mode zero, sqrt(pixels) times their means, each of (C,), given
        those of the data (B, C), at one u each.
        """
        of_y, of_data = self._precision()[..., 0, :, :].split(self.channels, -1)
        mean = -torch.linalg.solve(of_y, of_data @ data.double()[..., None])[..., 0]
        return MultivariateNormal(mean, precision_matrix=of_y, validate_args=False)

    def _mean(self, precision: Tensor, data: Tensor, rings: Rings) -> Tensor:
        """Of rows of the fields in the precision, and data."""
        of_y, of_data = precision.split(self.channels, -1)
        return applied(-torch.linalg.solve(of_y, of_data), data, rings)

    def _given_mean(self, data: Tensor, of_mean: MultivariateNormal | None) -> tuple[Tensor, Tensor]:
        """Rows of the fields in the precision, and modes of the data, (B, C, modes): of mode zero, of whose
        law more is known, the data are its mean.
        """
        precision = self._precision()
        if of_mean is None:
            return precision, data
        data = data.clone()
        data[..., 0] = of_mean.mean.to(data.dtype)
        first = torch.cat([of_mean.precision_matrix, -of_mean.precision_matrix], -1)[:, None]
        return torch.cat([first, precision[:, 1:]], 1), data

    def _precision(self) -> Tensor:
        """The rows of the fields in the precision of all of z, (*, rings, C, 2 C) float64."""
        told = torch.eye(2 * self.channels, dtype=torch.float64, device=self.slope.device) - self._slopes()
        return told[..., : self.channels].mT @ (told / self.variance.mT.double()[..., None])


def rotated(axes: Tensor, modes: Tensor, rings: Rings) -> Tensor:
    """Of modes (B, C, modes) what lies along the columns of (B, rings, C, C): (B, C, modes)."""
    return applied(axes.mT, modes, rings)


def rotated_back(axes: Tensor, along: Tensor, rings: Rings) -> Tensor:
    """The inverse of `rotated`."""
    return applied(axes, along, rings)


def applied(gain: Tensor, modes: Tensor, rings: Rings) -> Tensor:
    """Gains (B, rings, C, D) times modes (B, D, modes): (B, C, modes)."""
    gain = gain.to(modes.real.dtype)
    # Processors take a half to a third of the time for a product a ring, accelerators wait for each.
    by_ring = modes.device.type == "cpu" and gain.shape[-1] > 1
    return _applied_by_ring(gain, modes, rings) if by_ring else _applied_by_mode(gain, modes, rings)


def _applied_by_ring(gain: Tensor, modes: Tensor, rings: Rings) -> Tensor:
    parts = torch.view_as_real(_picked(modes, rings.order)).flatten(2)
    of_rings = zip(gain.unbind(1), parts.split([2 * size for size in rings.sizes], 2), strict=True)
    found = torch.cat([of_ring @ part for of_ring, part in of_rings], 2).unflatten(2, (-1, 2))
    return _picked(torch.view_as_complex(found), rings.place)


def _picked(modes: Tensor, which: Tensor) -> Tensor:
    """Of modes (B, D, modes) those in another order: in a third of the time that `index_select` takes for it
    on a processor.
    """
    rows = modes.flatten(0, 1)
    return rows.gather(1, which.expand(len(rows), -1)).view_as(modes)


def _applied_by_mode(gain: Tensor, modes: Tensor, rings: Rings) -> Tensor:
    parts = torch.view_as_real(modes).transpose(1, 2)
    found = gain.index_select(1, rings.index) @ parts
    return torch.view_as_complex(found.transpose(1, 2).contiguous())


def model_at(features: Tensor, log_variance: Tensor, slope: Tensor) -> LinearModel:
    """The model at scalars of which there are features (*, F), of coefficients as `fit_model` finds them."""
    coefficients = torch.cat([log_variance, slope]).transpose(0, 1)
    values = features @ coefficients.flatten(1)
    ln, slopes = values.unflatten(-1, coefficients.shape[1:]).split([len(log_variance), len(slope)], -2)
    return LinearModel(torch.exp(ln), slopes)


def fit_model(modes: Parts, rings: Rings, quadratic: Quadratic) -> tuple[Tensor, Tensor]:
    """Coefficients of log v, (2 C, F, rings), and of the slopes, (C (2 C - 1), F, rings), float64.

    Args:
        modes: in parts parameters "u" (m, P), and modes "y" of fields and "d" of data, each (m, C, modes).
        rings: of the grid.
        quadratic: the F features of the parameters.
    """
    found = modes.through(lambda part: _powers(part, rings)).joined()
    features, power = quadratic(found["u"]).double(), found["power"]
    size = math.isqrt(2 * power.shape[-1])
    row, column = torch.tril_indices(size, size)
    # Powers of all of z in units of its own: a ring without power, of a blocky field or a constant channel,
    # has none in the field's own units.
    own = power[..., row == column]
    least = _FLOOR * own.mean((0, 1)) + _TINY
    unit = torch.maximum(own.sqrt().mean(0).square(), least).sqrt()
    power /= unit[:, row] * unit[:, column]
    floor = least / unit.square()
    log_variance, slopes = [], []
    for i, slope in enumerate(_fit_slopes(features, power, floor)):
        left = _left(features, slope, power, i).clamp_min(0.0)
        log_variance.append(fit_gamma(features, left + floor[:, i]))
        log_variance[-1][0] += 2.0 * unit[:, i].log()
        slopes.append(slope * (unit[:, i] / unit[:, :i].T)[:, None])
    return torch.stack(log_variance), torch.cat(slopes)


def _powers(part: Values, rings: Rings) -> dict[str, Tensor]:
    """Parameters, and the cross-power a mode of fields and data, float64 (m, rings, C (2 C + 1)): the lower
    triangle, row by row.
    """
    z = torch.cat([part["y"], part["d"]], 1).to(torch.complex128)
    row, column = torch.tril_indices(z.shape[1], z.shape[1])
    return {"u": part["u"], "power": (cross_power(z, rings) / rings.count[:, None, None])[..., row, column]}


def _at(i: int, j: int) -> int:
    """Where the power of z_i and z_j is, i >= j."""
    return i * (i + 1) // 2 + j


def cross_power(z: Tensor, rings: Rings) -> Tensor:
    """Cross-power of modes (B, C, modes) summed over each ring, (B, rings, C, C)."""
    weighted = torch.view_as_real((z * rings.weight.to(z.real.dtype).sqrt())[..., rings.order])
    parts = weighted.split([*rings.sizes, weighted.shape[-2] - sum(rings.sizes)], -2)[: len(rings)]
    return torch.stack([part.flatten(-2) @ part.flatten(-2).mT for part in parts], 1)


def _fit_slopes(features: Tensor, power: Tensor, floor: Tensor) -> list[Tensor]:
    """Slopes of each of z in those before it, (i, F, rings): least squares over all modes.

    Args:
        features: (M, F).
        power: of all of z, in units of their own, see `_powers`.
        floor: what counts as none in these, (rings, 2 C).
    """
    count, size = features.shape[1], floor.shape[1]
    found = [features.new_zeros(i, count, power.shape[1]) for i in range(size)]
    ridges = len(features) * floor.repeat_interleave(count, 1)
    for ring in range(power.shape[1]):
        squares = features.new_empty(size, count, size, count)
        for j in range(size - 1):
            for k in range(j + 1):
                block = features.T @ (features * power[:, ring, _at(j, k), None])
                squares[j, :, k], squares[k, :, j] = block, block
        for i in range(1, size):
            numbers = i * count
            told = squares[:i, :, :i].reshape(numbers, numbers) + torch.diag(ridges[ring, :numbers])
            products = (features.T @ power[:, ring, _at(i, 0) : _at(i, i)]).T.reshape(-1, 1)
            found[i][:, :, ring] = torch.linalg.solve(told, products).view(i, count)
    return found


def _left(features: Tensor, slope: Tensor, power: Tensor, i: int) -> Tensor:
    """Power of z_i that those before it leave, (M, rings)."""
    left = power[..., _at(i, i)].clone()
    a = [features @ one for one in slope]
    for j in range(i):
        left -= 2.0 * a[j] * power[..., _at(i, j)]
        for k in range(j + 1):
            left += (1.0 if j == k else 2.0) * a[j] * a[k] * power[..., _at(j, k)]
    return left
