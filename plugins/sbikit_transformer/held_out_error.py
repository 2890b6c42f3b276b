r"""Errors of the denoisers on simulations that never train, beside what these imply of themselves.

Of x = u + sigma n, n ~ N(0, 1), the exact denoiser D(x) = E[u | x, d] has as its own gain the variance that
is left,

    Var[u_i | x, d] = sigma^2 dD_i / dx_i

(the second-order formula of Tweedie; Meng et al. 2021, arXiv:2111.04726), which on average is the squared
error E (u_i - D_i)^2. Where the error is larger than the gain implies, draws are too narrow or displaced;
where it is smaller, they are too wide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from sbikit import Values, derive_seed, generator
from sbikit.learning import Record
from sbikit_transformer.denoiser import Denoiser

# Of sigma, by which a scalar is moved either way to find the slope: a larger one blurs a slope that changes
# with x, a smaller one lets rounding in.
_STEP = 0.02
_LEVELS = 6
# Scalars whose slopes cost what a look may cost; of more, fewer simulations are looked at.
_SCALARS = 3
_LEAST = 2  # simulations, for a standard error


@torch.no_grad()
def scalar_errors(
    denoiser: Denoiser, values: Values, sigma: float, source: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Squared errors of the denoised scalars at a noise level, and the variances that their gains imply.

    Args:
        denoiser: trained, or on the way there.
        values: simulations, each (B, *shape), on the denoiser's device.
        sigma: the level, in units of the prior's standard deviations.
        source: of the noise, on the CPU.

    Returns:
        (B, P) each, in units of the prior's variances.
    """
    u = denoiser.coordinates.encode(values)
    rows, scalars = u.shape
    noisy = u + sigma * torch.randn(u.shape, generator=source).to(u.device)
    step = _STEP * sigma * torch.eye(scalars, device=u.device)
    at = noisy[:, None] + torch.cat([step.new_zeros(1, scalars), step, -step])
    told = denoiser.condition(values).repeat(1 + 2 * scalars)
    log_sigma = torch.full((at.shape[0] * at.shape[1],), sigma, device=u.device).log()
    found = denoiser.denoise_scalars(at.flatten(0, 1), log_sigma, told)[0].unflatten(0, (rows, -1))
    here, above, below = found.split([1, scalars, scalars], 1)
    slopes = (above - below).diagonal(dim1=1, dim2=2) / (2.0 * _STEP * sigma)
    return (here[:, 0] - u).square(), sigma**2 * slopes


@torch.no_grad()
def field_errors(
    denoiser: Denoiser, values: Values, sigma: float, source: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Squared errors of a pixel of the denoised field given true scalars, and of the guide's.

    Args:
        denoiser, values, source: see `scalar_errors`.
        sigma: the level, in units of the field's working coordinates.

    Returns:
        (B,) each, means over channels and pixels, in working coordinates.
    """
    assert denoiser.guide is not None, "there is no latent field"
    told, (field, u) = denoiser.condition(values), denoiser.encode(values)
    noisy = field + sigma * torch.randn(field.shape, generator=source).to(field.device)
    log_sigma = torch.full((len(u),), sigma, device=u.device).log()
    found = denoiser.denoise_field(noisy, u, log_sigma, told)[0]
    guess = denoiser.known_of_field(noisy, u, log_sigma, told).field
    squares = [(part - field).square().flatten(1).mean(1) for part in (found, guess)]
    return squares[0], squares[1]


class HeldOutError:
    """What a look at networks like the denoiser's finds, level by level.

    Args:
        denoiser: its maps fitted.
        values: simulations that never train, each (N, *shape); the first ones are looked at.
        batch: simulations at once.
        seed: fixes the noise, which is the same in each look.
        device: where to compute.
    """

    def __init__(
        self, denoiser: Denoiser, values: Values, *, batch: int, seed: int, device: torch.device
    ) -> None:
        self._denoiser, self._values, self._batch = denoiser, values, batch
        self._seed, self._device = seed, device
        self._labels = [label for vector in denoiser.spec.vectors for label in vector.labels]

    def records(self, network: nn.Module, count: int) -> Iterator[Record]:
        """Entries of the log: means and their standard errors, of the scalars by name, then of the field.

        Args:
            network: denoises in place of the denoiser's own.
            count: simulations to look at, as far as there are so many.
        """
        denoiser = self._denoiser
        with denoiser.using(network), denoiser.multiplying(torch.float32):
            yield from self._of_scalars(count)
            if denoiser.guide is not None:
                yield from self._of_field(count)

    def _of_scalars(self, count: int) -> Iterator[Record]:
        scalars = len(self._labels)
        count = min(count, count * (1 + 2 * _SCALARS) // (1 + 2 * scalars))
        for sigma in self._denoiser.scalar_levels().evenly(_LEVELS):
            squares, implied = self._over(count, sigma, scalar_errors)
            for i, label in enumerate(self._labels):
                of_error = _mean("squared_error", squares[:, i])
                yield {
                    "sigma": sigma,
                    "scalar": label,
                    **of_error,
                    **_mean("implied_variance", implied[:, i]),
                }

    def _of_field(self, count: int) -> Iterator[Record]:
        for sigma in self._denoiser.field_levels().evenly(_LEVELS):
            squares, guessed = self._over(count, sigma, field_errors)
            of_error = _mean("pixel_squared_error", squares)
            yield {"sigma": sigma, **of_error, **_mean("guide_squared_error", guessed)}

    def _over(
        self,
        count: int,
        sigma: float,
        errors: Callable[[Denoiser, Values, float, torch.Generator], tuple[Tensor, Tensor]],
    ) -> tuple[Tensor, Tensor]:
        """Of the first simulations, a batch at a time."""
        source = generator(derive_seed(self._seed, "noise of looks"))
        count = max(_LEAST, min(count, len(next(iter(self._values.values())))))
        parts = []
        for first in range(0, count, self._batch):
            rows = slice(first, min(first + self._batch, count))
            some = {name: value[rows].to(self._device) for name, value in self._values.items()}
            parts.append(errors(self._denoiser, some, sigma, source))
        first_of_pair, second_of_pair = (torch.cat(part).double().cpu() for part in zip(*parts, strict=True))
        return first_of_pair, second_of_pair


def _mean(name: str, values: Tensor) -> dict[str, float]:
    """Of (B,), with its standard error."""
    return {name: float(values.mean()), f"{name}_se": float(values.std()) / len(values) ** 0.5}
